import { afterAll, beforeAll, describe, expect } from 'vitest'
import { readLogs, type OutputChunk, type Workspace } from '@pyro/sdk'
import { DriverWorkspaces } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'

const MIB = 1024 * 1024
/** Of `LIMITS`: what a result carries inline, and what the log keeps. */
const HEAD_BYTES = 64 * 1024
const TAIL_BYTES = 192 * 1024
const LOG_BYTES = 64 * MIB

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const workspaces = new DriverWorkspaces(() => world)

describe('the commands of a workspace', () => {
  onEveryDriver('command.detached', async (driver) => {
    const ws = await workspaces.of(driver)
    const begun = Date.now()
    const command = await ws.exec('echo one; until [ -e /tmp/go-on ]; do sleep 0.02; done; echo two; exit 5', {
      detach: true,
    })
    expect(command.commandId).toMatch(/^cmd-[a-z2-7]{12}$/)
    const followed: string[] = []
    const follower = (async () => {
      for await (const text of command.stdout) {
        followed.push(text)
        if (text === 'one\n') await ws.exec(['touch', '/tmp/go-on'], { check: true })
      }
    })()
    await expect(command.wait({ timeoutMs: 1 })).rejects.toMatchObject({ code: 'request.timed-out' })
    const again = (await world.pyro.workspaces.get(ws.name)).commands.get(command.commandId)
    // Longer than one timer of Node can be.
    expect(await again.wait({ timeoutMs: 40 * 86_400_000 })).toMatchObject({
      commandId: command.commandId,
      exitCode: 5,
      stdout: 'one\ntwo\n',
      state: 'exited',
    })
    await follower
    expect(followed.join('')).toBe('one\ntwo\n')
    expect(await again.wait()).toMatchObject({ exitCode: 5 })
    expect(Date.now() - begun).toBeLessThan(60_000)
    await expect(ws.commands.wait('cmd-aaaaaaaaaaaa')).rejects.toMatchObject({ code: 'command.not-found' })
  })

  onEveryDriver('command.list', async (driver) => {
    const ws = await workspaces.of(driver)
    const { total: before } = await world.pyro.client.call('workspace.command.list', { workspace: ws.id })
    const first = await ws.exec(['echo', 'first'])
    const second = await ws.exec('echo second >&2; exit 2')
    const third = await ws.exec(['sleep', '86331'], { detach: true })
    expect([first.sequence, second.sequence]).toEqual([before + 1, before + 2])
    const all = await ws.commands.list({ limit: 3 })
    expect(all.map(({ commandId }) => commandId)).toEqual([first.commandId, second.commandId, third.commandId])
    expect(all).toMatchObject([
      { command: ['echo', 'first'], exitCode: 0, stdout: 'first\n', state: 'exited' },
      { command: 'echo second >&2; exit 2', exitCode: 2, stderr: 'second\n' },
      { command: ['sleep', '86331'], exitCode: null, state: 'running', sequence: before + 3 },
    ])
    expect((await ws.commands.list({ running: true })).map(({ commandId }) => commandId)).toEqual([third.commandId])
    expect(await ws.status()).toMatchObject({
      commandCount: before + 3,
      lastCommand: { commandId: third.commandId, running: true, exitCode: null },
    })
    await third.kill('KILL')
  })

  onEveryDriver('command.kill', async (driver) => {
    const ws = await workspaces.of(driver)
    const polite = await ws.exec('trap "echo bye; exit 6" TERM; echo up; while :; do sleep 0.05; done', {
      detach: true,
    })
    await upTo(polite.output(), 'up\n')
    expect(await polite.kill()).toMatchObject({ exitCode: 6, stdout: 'up\nbye\n', state: 'exited' })
    const perl = String.raw`$| = 1; $SIG{USR1} = sub { print "usr1\n" }; print "up\n"; sleep 1 while 1`
    const told = await ws.exec(['perl', '-e', perl], { detach: true })
    await upTo(told.output(), 'up\n')
    expect(await told.kill('USR1')).toMatchObject({ state: 'running' })
    await upTo(told.output(), 'up\nusr1\n')
    expect(await told.kill('KILL')).toMatchObject({ exitCode: 137, signal: 'KILL' })
    expect(await told.kill()).toMatchObject({ exitCode: 137, state: 'exited' })
    const stubborn = await ws.exec('trap "" TERM; echo up; sleep 86341 & while :; do sleep 86342; done', {
      detach: true,
    })
    await upTo(stubborn.output(), 'up\n')
    expect(await stubborn.kill()).toMatchObject({ exitCode: 137, signal: 'KILL' })
    expect((await ws.exec('cat /proc/[0-9]*/cmdline')).stdout).not.toContain('8634')
    // One that ends by itself while it is asked to.
    for (let round = 0; round < 20; round += 1) {
      const brief = await ws.exec(`sleep 0.0${round % 10}`, { detach: true })
      expect(await brief.kill('KILL')).toMatchObject({ state: 'exited' })
    }
  })

  onEveryDriver('command.command-line', async (driver) => {
    const ws = await workspaces.of(driver)
    const cli = (...args: string[]) => world.cli(['workspace', ...args])
    const start = async (script: string): Promise<string> => {
      const started = await cli('exec', ws.name, '--detach', '--', script)
      expect(started).toMatchObject({ code: 0, stdout: expect.stringMatching(/^cmd-[a-z2-7]{12}\n$/) })
      return started.stdout.trim()
    }
    const one = await start('echo one; until [ -e /tmp/more ]; do sleep 0.02; done; echo two; echo three >&2; exit 9')
    expect(await cli('command', 'wait', ws.name, one, '--timeout', '1ms')).toMatchObject({ code: 125 })
    const follow = cli('logs', ws.name, '--command', one, '--follow')
    await ws.exec(['touch', '/tmp/more'], { check: true })
    expect(await follow).toMatchObject({ code: 0, stdout: 'one\ntwo\n', stderr: 'three\n' })
    expect((await cli('command', 'wait', ws.name, one)).code).toBe(9)
    const two = await start('sleep 86351; true')
    expect((await cli('command', 'list', ws.name, '--running', '--id-only')).stdout).toBe(`${two}\n`)
    expect((await cli('command', 'kill', ws.name, two, '--signal', 'KILL')).code).toBe(0)
    expect((await cli('command', 'wait', ws.name, two)).code).toBe(137)
    expect(await cli('logs', ws.name, '--command', 'cmd-aaaaaaaaaaaa')).toMatchObject({ code: 4 })
  })

  onEveryDriver('command.output-order', async (driver) => {
    const ws = await workspaces.of(driver)
    // Each line waits until the one before it was seen outside, so its place is certain.
    const script = 'for i in 1 2 3 4 5 6; do if [ $((i % 2)) = 0 ]; then echo $i; else echo $i >&2; fi; read _; done'
    const seen: string[] = []
    const heard = new Queue<string>()
    const answers = async function* (): AsyncGenerator<string> {
      for (let line = 1; line <= 6; line++) {
        await heard.next()
        yield 'next\n'
      }
    }
    const hear = (stream: string) => (text: string) => {
      seen.push(`${stream} ${text}`)
      heard.push(text)
    }
    const result = await ws.exec(script, { stdin: answers(), onStdout: hear('out'), onStderr: hear('err') })
    const order = ['err 1\n', 'out 2\n', 'err 3\n', 'out 4\n', 'err 5\n', 'out 6\n']
    expect(seen).toEqual(order)
    expect(result).toMatchObject({ stdout: '2\n4\n6\n', stderr: '1\n3\n5\n', stdoutBytes: 6, stderrBytes: 6 })
    const logged: string[] = []
    for await (const chunk of ws.logs({ commandId: result.commandId })) {
      logged.push(`${chunk.stream === 'stdout' ? 'out' : 'err'} ${Buffer.from(chunk.bytes).toString()}`)
    }
    expect(logged).toEqual(order)
    const logs = await world.cli(['workspace', 'logs', ws.name, '--command', result.commandId])
    expect(logs).toEqual({ code: 0, stdout: '2\n4\n6\n', stderr: '1\n3\n5\n' })
  })

  onEveryDriver('command.output-bytes', async (driver) => {
    const ws = await workspaces.of(driver)
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
    const chunks: Buffer[] = []
    const result = await ws.exec(['cat'], {
      stdin: bytes,
      onStdoutBytes: (chunk) => void chunks.push(Buffer.from(chunk)),
    })
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true)
    expect(Buffer.from(result.stdoutBase64 ?? '', 'base64').equals(bytes)).toBe(true)
    expect(result.stdout).toContain('\uFFFD')
    const texts: string[] = []
    // The character is cut between two writes: its first half must wait for the second.
    await ws.exec(String.raw`printf '\303'; sleep 0.1; printf '\274'`, { onStdout: (text) => void texts.push(text) })
    expect(texts.join('')).toBe('ü')
  })

  onEveryDriver('command.output-truncated', async (driver) => {
    const ws = await workspaces.of(driver)
    const { stdout: whole, ...result } = await ws.exec(['seq', '100000'])
    const expected = Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join('')
    expect(result).toMatchObject({ stdoutBytes: expected.length, truncated: true, exitCode: 0 })
    expect(whole.length).toBe(HEAD_BYTES + TAIL_BYTES)
    expect(whole.slice(0, HEAD_BYTES)).toBe(expected.slice(0, HEAD_BYTES))
    expect(whole.slice(HEAD_BYTES)).toBe(expected.slice(-TAIL_BYTES))
    expect((await collect(ws, { commandId: result.commandId })).stdout.toString()).toBe(expected)
    const exact = await ws.exec(`head -c ${HEAD_BYTES + TAIL_BYTES} /dev/zero | tr '\\0' x`)
    expect(exact).toMatchObject({ truncated: false, stdout: 'x'.repeat(HEAD_BYTES + TAIL_BYTES) })
  })

  onEveryDriver('command.log-limit', async (driver) => {
    const ws = await workspaces.of(driver)
    let streamed = 0
    const printed = LOG_BYTES + 6 * MIB
    const result = await ws.exec(`head -c ${printed} /dev/zero; echo end >&2`, {
      onStdoutBytes: (bytes) => void (streamed += bytes.byteLength),
    })
    expect(streamed).toBe(printed)
    expect(result).toMatchObject({ exitCode: 0, stdoutBytes: printed, stderr: 'end\n', truncated: true })
    const log = await collect(ws, { commandId: result.commandId })
    expect(log.stdout.byteLength + log.stderr.byteLength).toBe(LOG_BYTES)
    expect(log.gapBytes).toBe(printed + 4 - LOG_BYTES)
    const behind = await collect(ws, { commandId: result.commandId, cursor: LOG_BYTES - 10 })
    expect(behind.stdout.byteLength).toBe(10)
  })
})

interface Collected {
  readonly stdout: Buffer
  readonly stderr: Buffer
  readonly gapBytes: number
}

const collect = async (ws: Workspace, input: { commandId: string; cursor?: number }): Promise<Collected> => {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] }
  let gapBytes = 0
  await readLogs(
    world.pyro.client,
    { workspace: ws.id, ...input },
    {
      output: ({ stream, bytes }) => void parts[stream].push(Buffer.from(bytes)),
      gap: (bytes) => void (gapBytes += bytes),
    },
  )
  return { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr), gapBytes }
}

/** Reads until all that was printed is this. */
const upTo = async (output: AsyncGenerator<OutputChunk, unknown, undefined>, wanted: string): Promise<void> => {
  let text = ''
  for await (const chunk of output) {
    text += Buffer.from(chunk.bytes).toString()
    if (text === wanted) return
    expect(wanted.startsWith(text)).toBe(true)
  }
  throw new Error(`ended after ${JSON.stringify(text)}, before ${JSON.stringify(wanted)}`)
}

/** Hands over one item after the other to whoever waits. */
class Queue<Item> {
  readonly #items: Item[] = []
  #wake: (() => void) | null = null

  push(item: Item): void {
    this.#items.push(item)
    this.#wake?.()
  }

  async next(): Promise<Item | undefined> {
    if (this.#items.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.#items.shift()
  }
}
