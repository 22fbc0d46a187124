import { spawn } from 'node:child_process'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EngineServer } from '../sdk/engine-server.ts'
import { CLI, ENVIRONMENT, until, World } from '../support/world.ts'
import { endOf, runLine, TerminalLine } from './shell.ts'

const CTRL_C = '\u0003'
/** More than the two seconds within which a second Ctrl-C kills. */
const LATER_MS = 2_200

let world: World
let ws: Workspace
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'fix', keep: true })
})
afterAll(() => world[Symbol.asyncDispose]())

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const nothingRuns = (): Promise<void> =>
  until(async () => (await ws.commands.list({ running: true })).length === 0, 'all commands to end')

/** Counts the Ctrl-C it gets and goes on. */
const STUBBORN = `'trap "echo caught" INT; echo ready; while :; do sleep 0.05; done'`

describe('Ctrl-C', () => {
  test('goes to the command, which may handle it', async () => {
    await using terminal = new TerminalLine(
      world,
      `pyro ws exec fix -- 'trap "echo handled; exit 9" INT; echo ready; while :; do sleep 0.05; done'`,
    )
    await terminal.sees('ready')
    terminal.type(CTRL_C)
    expect(await terminal.ended()).toBe(9)
    expect(terminal.screen).toContain('handled')
    await nothingRuns()
  })

  test('ends a command that does not handle it, with 130', async () => {
    await using terminal = new TerminalLine(world, 'pyro ws exec fix -- sh -c "echo ready; exec sleep 600"')
    await terminal.sees('ready')
    terminal.type(CTRL_C)
    expect(await terminal.ended()).toBe(130)
    await nothingRuns()
  })

  test('twice within two seconds kills the command and all it started', async () => {
    await using terminal = new TerminalLine(world, `pyro ws exec fix -- 'setsid sleep 611 & '${STUBBORN}`)
    await terminal.sees('ready')
    terminal.type(CTRL_C)
    await terminal.sees('caught')
    terminal.type(CTRL_C)
    expect(await terminal.ended()).toBe(130)
    await nothingRuns()
    const { stdout } = await ws.exec('cat /proc/[0-9]*/cmdline')
    expect(stdout).not.toContain('611')
  })

  test('twice, but slowly, is one for the command each time', async () => {
    await using terminal = new TerminalLine(world, `pyro ws exec fix -- ${STUBBORN}`)
    await terminal.sees('ready')
    terminal.type(CTRL_C)
    await terminal.sees('caught')
    await sleep(LATER_MS)
    terminal.type(CTRL_C)
    await terminal.sees(/caught[^]*caught/)
    terminal.type(CTRL_C)
    expect(await terminal.ended()).toBe(130)
  })

  test('cancels a call that runs no command, and leaves nothing of it', async () => {
    await world.restartEngine({ PYRO_FAULT: 'workspace.create/populate:hang' })
    try {
      await using terminal = new TerminalLine(world, `pyro ws create ${ENVIRONMENT} --driver runc --name never`)
      await until(async () => (await world.pyro.workspaces.list()).length === 2, 'the create to be under way')
      terminal.type(CTRL_C)
      expect(await terminal.ended()).toBe(130)
      expect(terminal.screen).toContain('everything is as before')
      expect(terminal.screen).toContain('request.cancelled')
      expect((await world.pyro.workspaces.list()).map(({ name }) => name)).toEqual(['fix'])
    } finally {
      world.unset('PYRO_FAULT')
      await world.restartEngine()
    }
  })
})

describe('Ctrl-C while a cancelled call is still under way', () => {
  test('leaves it, and says where to look what became of it', async () => {
    await using engine = await EngineServer.start({
      // Neither ever ends.
      'POST /v1/workspaces/{workspace}/reset': () => undefined,
      'POST /v1/requests/{requestId}/cancel': () => undefined,
    })
    const child = spawn(process.execPath, [CLI, 'workspace', 'reset', 'fix'], { env: { ...engine.env, NO_COLOR: '1' } })
    const end = endOf(child)
    for (const path of [/reset$/, /cancel$/]) {
      await until(() => engine.of('POST', path).length === 1, `a call of ${String(path)}`)
      child.kill('SIGINT')
    }
    expect(await end).toEqual({
      code: 130,
      stdout: '',
      stderr: `error: pyro workspace reset was left before it had ended; what it began may go on (request.cancelled)
  hint: pyro workspace status fix
`,
    })
  })
})

describe('SIGTERM', () => {
  test('goes to the command', async () => {
    const command = `'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.05; done'`
    const line = `pyro ws exec fix -- ${command} > out & until grep -q ready out; do sleep 0.05; done; kill -TERM $!; wait $!`
    const { code, stdout } = await runLine(world, `${line}; code=$?; cat out; exit $code`)
    expect(code).toBe(3)
    expect(stdout).toBe('ready\nbye\n')
    await nothingRuns()
  })
})

describe('a command line that is killed', () => {
  test('leaves its command running, to be waited for', async () => {
    const line = `pyro ws exec fix -- 'echo ready; until [ -e /run/go ]; do sleep 0.05; done; exit 5' > out & until grep -q ready out; do sleep 0.05; done; kill -KILL $!; wait $!`
    expect((await runLine(world, line)).code).toBe(137)
    const [running] = await ws.commands.list({ running: true })
    await ws.exec(['touch', '/run/go'], { check: true })
    const waited = await world.cli(['workspace', 'command', 'wait', 'fix', running?.commandId ?? ''])
    expect(waited.code).toBe(5)
  })
})
