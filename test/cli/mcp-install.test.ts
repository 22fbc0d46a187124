import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { INSTALL_CLIENTS } from '@pyro/mcp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { McpHost } from '../mcp/mcp-host.ts'
import { World } from '../support/world.ts'
import { shellEnv } from './shell.ts'

let world: World
/** Home folder of a user who has no configuration yet. */
let user: string
let project: string
beforeAll(async () => {
  world = await World.open()
  user = mkdtempSync(join(world.folder, 'user-'))
  project = mkdtempSync(join(world.folder, 'project-'))
})
afterAll(() => world[Symbol.asyncDispose]())

const install = (args: readonly string[], path = shellEnv(world)['PATH'] ?? ''): ReturnType<World['cli']> =>
  world.cli(['mcp', 'install', ...args], {
    cwd: project,
    env: { HOME: user, XDG_CONFIG_HOME: join(user, '.config'), CODEX_HOME: join(user, '.codex'), PATH: path },
  })

describe.each(INSTALL_CLIENTS)('pyro mcp install %s', (client) => {
  test('--print prints what it would write, says where, and writes nothing', async () => {
    for (const scope of ['user', 'project']) {
      const { code, stdout, stderr } = await install([client, '--scope', scope, '--print'])
      expect(code).toBe(0)
      expect(stdout).toMatch(/pyro[^]*mcp[^]*serve/)
      expect(stderr).toMatch(/^\/\S+ would hold this\n$/)
      expect(existsSync(stderr.split(' ')[0] ?? '')).toBe(false)
    }
    expect([readdirSync(user), readdirSync(project)]).toEqual([[], []])
  })
})

describe('pyro mcp install', () => {
  test('writes once, keeps what is there, and says so the second time', async () => {
    mkdirSync(join(project, '.cursor'))
    const first = await install(['cursor', '--scope', 'project', '--json'])
    const installed = JSON.parse(first.stdout) as { path: string; outcome: string }
    const text = readFileSync(installed.path, 'utf8')
    expect(installed.path).toBe(join(project, '.cursor', 'mcp.json'))
    expect(JSON.parse(text)).toMatchObject({ mcpServers: { pyro: { args: expect.arrayContaining(['mcp', 'serve']) } } })
    const second = await install(['cursor', '--scope', 'project'])
    expect(second.stdout).toBe(`stands already in ${installed.path}\n`)
    expect(readFileSync(installed.path, 'utf8')).toBe(text)
  })

  test('names a server that starts, also where pyro is not on the PATH', async () => {
    const { stdout } = await install(['claude-code', '--print'], '/usr/bin:/bin')
    const { pyro } = (JSON.parse(stdout) as { mcpServers: Record<string, { command: string; args: string[] }> })
      .mcpServers
    const env = { HOME: user, PATH: '/usr/bin:/bin', ...world.env }
    await using host = await McpHost.start({ env, command: [pyro?.command ?? '', ...(pyro?.args ?? [])], cwd: project })
    expect((await host.client.listTools()).tools).toHaveLength(12)
  })
})
