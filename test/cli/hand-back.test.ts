import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { McpHost } from '../mcp/mcp-host.ts'
import { CLI, ENVIRONMENT, World } from '../support/world.ts'
import { runLine } from './shell.ts'

let world: World
/** Top of a work tree with the folder `part one` in it. */
let top: string
let part: string
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())
beforeEach(() => {
  top = mkdtempSync(join(world.folder, 'project-'))
  part = join(top, 'part one')
  mkdirSync(part)
  writeFileSync(join(top, 'README'), 'old\n')
  writeFileSync(join(part, 'main.py'), 'old\n')
  const git = (...args: string[]): Buffer => execFileSync('git', args, { cwd: top })
  git('init', '--quiet')
  git('add', '.')
  git('-c', 'user.name=T', '-c', 'user.email=t@example.org', 'commit', '--quiet', '--message', 'Begin')
})

const CREATE = `pyro ws create ${ENVIRONMENT} --driver runc --name fix`

/** A workspace `fix`, as the options seed it in that folder, in which every file changed and one is new. */
const seeded = async (cwd: string, options: string): Promise<AsyncDisposable> => {
  const { code, stderr } = await runLine(world, `${CREATE} ${options}`, { cwd })
  expect({ code, stderr }).toMatchObject({ code: 0 })
  const ws = await world.pyro.workspaces.get('fix')
  await ws.exec(`find . -type f -exec sh -c 'echo new > "$1"' sh {} ';'; echo new > added`, { check: true })
  return { [Symbol.asyncDispose]: async () => void (await ws.delete()) }
}

/** What is said about applying the patch in that folder. */
const said = async (cwd: string, line = 'pyro ws diff fix > /dev/null'): Promise<string> => {
  const { code, stderr } = await runLine(world, line, { cwd })
  expect(code).toBe(0)
  return stderr.split('\n').slice(1).join('\n')
}

const contents = (...paths: readonly string[]): (string | null)[] =>
  paths.map((path) => (existsSync(path) ? readFileSync(path, 'utf8') : null))

/** The command that the hint names, given the patch. */
const followed = async (cwd: string): Promise<void> => {
  const [, command = 'false'] = /: (git -C .*)\n$/.exec(await said(cwd)) ?? []
  const { code, stderr } = await runLine(world, `pyro ws diff fix --quiet | ${command}`, { cwd })
  expect({ code, stderr }).toMatchObject({ code: 0 })
}

describe('the patch of a workspace', () => {
  test('that has the whole work tree is handed back at its top without another word', async () => {
    await using _ = await seeded(top, '--seed-git .')
    expect(await said(top)).toBe('')
    const { code } = await runLine(world, 'pyro ws diff fix | git apply --3way', { cwd: top })
    expect(code).toBe(0)
    expect(contents(join(top, 'README'), join(part, 'main.py'), join(top, 'added'))).toEqual(Array(3).fill('new\n'))
  })

  test('that has the whole work tree names what applies it from a folder of it', async () => {
    await using _ = await seeded(part, '--seed-git ..')
    await followed(part)
    expect(contents(join(top, 'README'), join(part, 'main.py'), join(top, 'added'))).toEqual(Array(3).fill('new\n'))
  })

  test.each(['--seed-git .', '--seed-path .'])(
    'that has a folder of the work tree (%s) names what applies it, in that folder as at the top',
    async (seed) => {
      await using _ = await seeded(part, seed)
      expect((await world.pyro.workspaces.get('fix')).info.seed.source).toBe(part)
      for (const cwd of [top, part]) {
        execFileSync('git', ['reset', '--quiet', '--hard'], { cwd: top })
        await followed(cwd)
        expect(contents(join(top, 'README'), join(part, 'main.py'), join(part, 'added'))).toEqual([
          'old\n',
          'new\n',
          'new\n',
        ])
      }
      expect(readdirSync(top)).not.toContain('added')
    },
  )

  test('whose origin is not known is said to be skipped in a folder below the top, but not at the top', async () => {
    await using _ = await seeded(world.folder, '')
    expect(await said(part)).toBe(
      `git apply counts paths from ${top} and skips without a word what is not in part one/: run it there, or say '--directory=part one'\n`,
    )
    expect(await said(top)).toBe('')
  })

  test('says nothing more where nobody is about to apply it', async () => {
    await using _ = await seeded(part, '--seed-git .')
    for (const option of ['--quiet', '--stat', '--name-only', '--root /etc', '--json'])
      expect(await said(part, `pyro ws diff fix ${option} > /dev/null`)).toBe('')
    expect(await said(world.folder)).toBe('')
  })

  test('that MCP writes for a project below the top names what applies it', async () => {
    const command: [string, ...string[]] = [process.execPath, CLI, 'mcp', 'serve', '--project-path', part]
    await using host = await McpHost.start({ env: { ...process.env, ...world.env }, command })
    await host.call('workspace_create', { environment: ENVIRONMENT, name: 'fix' })
    await host.call('workspace_exec', { workspace: 'fix', command: 'echo new > main.py' })
    const { text } = await host.call('workspace_diff', { workspace: 'fix', output: 'change.patch' })
    await (await world.pyro.workspaces.get('fix')).delete()
    const [, apply = 'false'] = /: (git apply .*) PATCH$/m.exec(text) ?? []
    execFileSync('sh', ['-c', `${apply} '${join(part, 'change.patch')}'`], { cwd: top })
    expect(contents(join(part, 'main.py'))).toEqual(['new\n'])
  })
})
