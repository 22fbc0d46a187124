import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parse as parseJsonc } from 'jsonc-parser'
import { parse as parseToml } from 'smol-toml'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { INSTALL_CLIENTS, type InstallClient, type InstallScope } from './clients.ts'
import { install } from './install.ts'

let home = ''
let project = ''

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), 'pyro-install-')))
  project = join(home, 'project')
  await mkdir(join(project, '.git'), { recursive: true })
})
afterEach(() => rm(home, { recursive: true }))

const run = (client: InstallClient, scope: InstallScope, more: { print?: boolean } = {}) =>
  install({ client, scope, home, cwd: project, env: {}, ...more })

const put = async (path: string, text: string): Promise<string> => {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text, { mode: 0o640 })
  return path
}

describe('install', () => {
  it.each(INSTALL_CLIENTS.flatMap((client) => [[client, 'user'] as const, [client, 'project'] as const]))(
    'writes a new configuration of %s for the %s, once',
    async (client, scope) => {
      const first = await run(client, scope)
      expect(first).toMatchObject({ outcome: 'written', backup: null })
      expect(await readFile(first.path, 'utf8')).toBe(first.text)
      expect(first.text).toContain('"serve"')
      expect(first.path.startsWith(scope === 'project' ? project : home)).toBe(true)
      const second = await run(client, scope)
      expect(second).toMatchObject({ outcome: 'unchanged', text: first.text })
    },
  )

  it('says what each host expects', async () => {
    const entries: Record<string, unknown> = {}
    for (const client of INSTALL_CLIENTS) {
      const { text } = await run(client, 'project', { print: true })
      entries[client] = client === 'codex' ? parseToml(text) : (parseJsonc(text) as unknown)
    }
    const stdio = { type: 'stdio', command: 'pyro', args: ['mcp', 'serve'] }
    const here = ['--project-path', '${workspaceFolder}']
    expect(entries).toEqual({
      'claude-code': { mcpServers: { pyro: stdio } },
      codex: { mcp_servers: { pyro: { command: 'pyro', args: ['mcp', 'serve'] } } },
      opencode: {
        $schema: 'https://opencode.ai/config.json',
        mcp: { pyro: { type: 'local', command: ['pyro', 'mcp', 'serve'], enabled: true } },
      },
      cursor: { mcpServers: { pyro: { command: 'pyro', args: ['mcp', 'serve', ...here] } } },
      vscode: { servers: { pyro: { ...stdio, args: ['mcp', 'serve', ...here] } } },
    })
    expect(await readdir(project)).toEqual(['.git'])
  })

  it('keeps other servers, comments, layout and mode of JSON, and a backup of the first state', async () => {
    const before =
      '{\n    // mine\n    "theme": "dark",\n    "mcpServers": {\n        "other": { "command": "x" }\n    },\n}\n'
    const path = await put(join(home, '.cursor', 'mcp.json'), before)
    const done = await run('cursor', 'user')
    expect(done).toMatchObject({ outcome: 'written', path, backup: `${path}.before-pyro` })
    const after = await readFile(path, 'utf8')
    expect(after).toContain('    // mine\n')
    expect(parseJsonc(after)).toMatchObject({
      theme: 'dark',
      mcpServers: { other: { command: 'x' }, pyro: { command: 'pyro' } },
    })
    expect(await readFile(`${path}.before-pyro`, 'utf8')).toBe(before)
    expect((await stat(path)).mode & 0o777).toBe(0o640)
    await install({ client: 'cursor', home, cwd: project, env: {}, profile: 'full' })
    expect(await readFile(`${path}.before-pyro`, 'utf8')).toBe(before)
  })

  it('replaces an older entry in TOML and leaves everything else', async () => {
    const before =
      '# models\nmodel = "x"\n\n[mcp_servers.pyro]\ncommand = "old"\n\n[mcp_servers.pyro.env]\nA = "1"\n\n[mcp_servers.other]\ncommand = "y" # keep\n\n[[list]]\na = 1\n'
    const path = await put(join(home, '.codex', 'config.toml'), before)
    await run('codex', 'user')
    const text = await readFile(path, 'utf8')
    expect(parseToml(text)).toEqual({
      model: 'x',
      mcp_servers: { other: { command: 'y' }, pyro: { command: 'pyro', args: ['mcp', 'serve'] } },
      list: [{ a: 1 }],
    })
    expect(text).toContain('# models\n')
    expect(text).toContain('# keep')
  })

  it('writes beside the nested servers of opencode 2', async () => {
    await put(join(project, 'opencode.json'), '{"mcp": {"servers": {"x": {"type": "local"}}}}')
    const { path } = await run('opencode', 'project')
    expect(parseJsonc(await readFile(path, 'utf8'))).toMatchObject({
      mcp: { servers: { x: {}, pyro: { type: 'local' } } },
    })
  })

  it.each([
    ['claude-code', '.claude.json', '{ "mcpServers": '],
    ['claude-code', '.claude.json', '[]'],
    ['codex', '.codex/config.toml', 'a = '],
    ['codex', '.codex/config.toml', 'mcp_servers = { pyro = { command = "old" } }\n'],
  ] as const)('changes nothing of a configuration of %s that it cannot merge: %s %s', async (client, name, text) => {
    const path = await put(join(home, name), text)
    await expect(run(client, 'user')).rejects.toMatchObject({ code: 'input.invalid' })
    expect(await readFile(path, 'utf8')).toBe(text)
  })

  it('changes the file behind a link and leaves the link', async () => {
    const target = await put(join(home, 'dotfiles', 'claude.json'), '{}')
    await symlink(target, join(home, '.claude.json'))
    expect((await run('claude-code', 'user')).path).toBe(target)
    expect(await realpath(join(home, '.claude.json'))).toBe(target)
  })
})
