import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { request, type ClientRequest } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestedDriver } from '@pyro/driver-testkit'
import { encodeFrame, encodeJsonFrame, FRAME, FRAMES_CONTENT_TYPE, REQUEST_ID_HEADER } from '@pyro/protocol'
import { socketOfHome, type Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { armFault, during, type Fault } from './injection.ts'
import { SMALL } from './killed-engine.ts'
import { Random } from './random.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const LINES = 300
/** About three seconds of numbered lines on both streams. */
const COUNT = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo out $i; echo err $i >&2; [ $((i % 10)) = 0 ] && sleep 0.08; done; exit 7`
const numbered = (name: string): string =>
  Array.from({ length: LINES }, (_, index) => `${name} ${index + 1}\n`).join('')

const open = (driver: TestedDriver): Promise<Workspace> =>
  world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })

const pause = (durationMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, durationMs))

/** Kills whatever engine there is, again and again, until `work` has ended. At least once. */
const whileKilling = async <T>(random: Random, work: Promise<T>): Promise<T> => {
  let over = false
  const watched = work.finally(() => (over = true))
  watched.catch(() => undefined)
  for (let kills = 0; kills < 4 && !over; kills++) {
    await pause(200 + random.below(500))
    await world.killEngine()
  }
  return watched
}

describe('a command whose engine is killed', () => {
  onEveryDriver('killed.exec', async (driver) => {
    const random = Random.seeded('kills during exec')
    await using ws = await open(driver)
    const received = { stdout: '', stderr: '' }
    const result = await whileKilling(
      random,
      ws.exec(COUNT, {
        onStdout: (text) => void (received.stdout += text),
        onStderr: (text) => void (received.stderr += text),
      }),
    )
    expect(result).toMatchObject({ exitCode: 7, state: 'exited', truncated: false })
    expect(received).toEqual({ stdout: numbered('out'), stderr: numbered('err') })
    expect(result.stdout).toBe(numbered('out'))
    const cli = await whileKilling(random, world.cli(['workspace', 'exec', ws.id, '--', COUNT]))
    expect(cli).toEqual({ code: 7, stdout: numbered('out'), stderr: numbered('err') })
    const waited = await ws.exec('sleep 1.5; exit 9', { detach: true })
    expect(await whileKilling(random, waited.wait())).toMatchObject({ exitCode: 9 })
    // What is on its way when an engine dies is another case.
    const taken = Promise.withResolvers<void>()
    const fed = ws.exec('read line; echo taken; sleep 1.5; echo "$line"', {
      stdin: 'all of it\n',
      onStdout: () => taken.resolve(),
    })
    await Promise.race([taken.promise, fed])
    expect(await whileKilling(random, fed)).toMatchObject({ stdout: 'taken\nall of it\n', exitCode: 0 })
    await expectInOrder(world)
  })

  onEveryDriver('killed.exec-input', async (driver) => {
    await using ws = await open(driver)
    // More than a pipe takes, and nobody who reads it: most of it is still on its way.
    const started = Promise.withResolvers<void>()
    const call = ws.exec('until [ -e /workspace/read ]; do sleep 0.1; done; wc -c > /workspace/taken', {
      stdin: Buffer.alloc(900_000),
      onStarted: () => started.resolve(),
    })
    call.catch(() => undefined)
    await Promise.race([started.promise, call])
    await world.killEngine()
    await expect(call).rejects.toMatchObject({
      code: 'engine.unreachable',
      hint: expect.stringContaining('command wait') as string,
    })
    const [command] = await ws.commands.list()
    await ws.exec(['touch', '/workspace/read'], { check: true })
    expect(await ws.commands.wait(command?.commandId ?? '')).toMatchObject({ exitCode: 0 })
    expect(Number((await ws.exec('cat taken')).stdout)).toBeLessThan(900_000)
    // Input that was never closed does not keep a command for ever either.
    const never = Promise.withResolvers<undefined>()
    const heard = Promise.withResolvers<void>()
    const endless = ws.exec('cat', {
      stdin: (async function* () {
        yield 'begun'
        await never.promise
      })(),
      onStdout: () => heard.resolve(),
    })
    endless.catch(() => undefined)
    await Promise.race([heard.promise, endless])
    await world.killEngine()
    await expect(endless).rejects.toMatchObject({ code: 'engine.unreachable' })
    never.resolve(undefined)
    const last = (await ws.commands.list()).at(-1)
    expect(await ws.commands.wait(last?.commandId ?? '')).toMatchObject({ exitCode: 0, stdout: 'begun' })
    // Its loss does not go unsaid either when the caller had not even heard that the command began.
    for (const delayMs of [0, 5, 10, 20, 40]) {
      const brief = ws.exec('cat', { stdin: 'all of it\n' }).then(
        ({ stdout }) => stdout,
        (error: unknown) => String((error as { code?: string }).code),
      )
      await pause(delayMs)
      await world.killEngine()
      expect(['all of it\n', 'engine.unreachable']).toContain(await brief)
    }
    await expectInOrder(world)
  })

  onEveryDriver('killed.exec-once', async (driver) => {
    const random = Random.seeded('kills at the start of exec')
    await using ws = await open(driver)
    const runs = 12
    for (let run = 1; run <= runs; run++) {
      const delayMs = random.below(25)
      await during(`killed after ${delayMs} ms`, async () => {
        const pid = await world.enginePid()
        const call = ws.exec(`echo ${run} >> /workspace/runs; echo ran ${run}`)
        call.catch(() => undefined)
        await pause(delayMs)
        if (pid !== null) process.kill(pid, 'SIGKILL')
        expect(await call).toMatchObject({ exitCode: 0, stdout: `ran ${run}\n` })
      })
    }
    const { stdout } = await ws.exec('cat /workspace/runs')
    expect(stdout.trim().split('\n')).toEqual(Array.from({ length: runs }, (_, index) => String(index + 1)))
  })

  onEveryDriver('killed.exec-interrupted', async (driver) => {
    const cases: readonly { step: string; fault: Fault; by: string; end: (ws: Workspace) => Promise<unknown> }[] = [
      { step: 'workspace.reset/commit', fault: 'kill-after', by: 'reset', end: (ws) => ws.reset() },
      { step: 'workspace.stop/stop-sandbox', fault: 'kill', by: 'stop', end: (ws) => ws.stop() },
      { step: 'workspace.delete/remove-volumes', fault: 'kill', by: 'delete', end: (ws) => ws.delete() },
    ]
    await using ws = await open(driver)
    for (const { step, fault, by, end } of cases) {
      await during(`${step}:${fault}`, async () => {
        await ws.start()
        await armFault(world, step, fault)
        const started = Promise.withResolvers<void>()
        const call = ws.exec(['sleep', '600'], { onStarted: () => started.resolve() })
        call.catch(() => undefined)
        await started.promise
        await end(ws)
        await expect(call).rejects.toMatchObject({ code: 'command.interrupted', data: { interruptedBy: by } })
      })
    }
    await expectInOrder(world)
  })
})

describe('run', () => {
  /** One call, as often as it is made: a client makes it again when it heard nothing from its engine. */
  const fed = (input: object): (() => ClientRequest) => {
    const head = encodeJsonFrame(FRAME.input, {
      environment: ENVIRONMENT,
      driver: 'runc',
      command: 'cat; sleep 600',
      ...SMALL,
      ...input,
      stdin: true,
    })
    const headers = { 'content-type': FRAMES_CONTENT_TYPE, [REQUEST_ID_HEADER]: randomUUID() }
    return () => {
      const call = request({ socketPath: socketOfHome(world.home), method: 'POST', path: '/v1/run', headers })
      call.write(head)
      call.write(encodeFrame(FRAME.stdin, Buffer.from('begun')))
      return call
    }
  }
  const begun = async (): Promise<boolean> => {
    const [ws] = await world.pyro.workspaces.list()
    return ws !== undefined && (await (await world.pyro.workspaces.get(ws.workspaceId)).commands.list()).length > 0
  }

  test.each([
    { keep: false, message: 'its workspace is deleted', hint: 'run it again', left: 0 },
    { keep: true, message: 'it goes on without', hint: 'pyro workspace command wait', left: 1 },
  ])('whose input was lost with its engine says what helps: $hint', async ({ keep, message, hint, left }) => {
    const ask = fed({ keep })
    await world.pyro.engine.start()
    ask().on('error', () => undefined)
    await until(begun, 'the command to begin')
    await world.killEngine()
    await world.pyro.engine.start()
    const again = ask()
    const [response] = (await once(again, 'response')) as [AsyncIterable<Buffer>]
    const said = await text(response)
    expect(said).toContain('engine.unreachable')
    expect(said).toContain(message)
    expect(said).toContain(hint)
    again.destroy()
    const workspaces = await world.pyro.workspaces.list()
    expect(workspaces).toHaveLength(left)
    for (const { workspaceId } of workspaces) await (await world.pyro.workspaces.get(workspaceId)).delete()
    await expectInOrder(world)
  })

  onEveryDriver('killed.run', async (driver) => {
    const cases: readonly (readonly [string, Fault])[] = [
      ['workspace.create/clone', 'kill-after'],
      ['workspace.create/commit', 'kill-after'],
      ['workspace.delete/interrupt-commands', 'kill'],
      ['workspace.delete/commit', 'kill-after'],
    ]
    for (const [step, fault] of cases) {
      await during(`${step}:${fault}`, async () => {
        await armFault(world, step, fault)
        const ended = await world.cli([
          'run',
          ENVIRONMENT,
          '--driver',
          driver,
          '--memory-mib',
          '128',
          '--quiet',
          '--',
          'echo out; echo err >&2; exit 3',
        ])
        expect(ended).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' })
        expect(await world.pyro.workspaces.list()).toEqual([])
        await expectInOrder(world)
      })
    }
  })
})
