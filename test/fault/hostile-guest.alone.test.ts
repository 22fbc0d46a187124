import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { encodeFrame, FRAME } from '@pyro/protocol'
import type { TestedDriver } from '@pyro/driver-testkit'
import { isPyroError, type Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { expectInOrder, runtimeFolder } from './account.ts'
import { answering, FakeAgent, type Answer, type Identity } from './fake-agent.ts'
import { EXIT, frames, STARTED } from './hostile-link.ts'
import { during } from './injection.ts'
import { markedWorkspace, markOf, SMALL } from './killed-engine.ts'
import { sandboxOf, signalAll, timed } from './outside.ts'

const MIB = 1024 * 1024
/** What the engine may grow by under a hostile agent. */
const MEMORY_MIB = 250
/** How long somebody else's command may take meanwhile, on a busy host. */
const OTHERS_MS = 20_000
/** How long each kind of hostility goes on. */
const HOSTILE_MS = 1_500

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** What a sandbox's agent knows, as the engine has written it down: a guest that takes over its agent has it. */
const identityOf = (ws: Workspace): Identity => {
  const db = new DatabaseSync(join(world.home, 'state.db'), { readOnly: true })
  try {
    const row = db.prepare('SELECT id, record FROM sandboxes WHERE workspace_id = ?').get(ws.id)
    const record = JSON.parse(String(row?.['record'])) as { spec: { token: string }; details: { bootId: string } }
    return { sandboxId: String(row?.['id']), token: record.spec.token, bootId: record.details.bootId }
  } finally {
    db.close()
  }
}

const engineMemoryMib = async (): Promise<number> => {
  const status = readFileSync(`/proc/${await world.enginePid()}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024
}

/** `answered`, or the code of an error that is not our own defect; else the error. */
const endOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => 'answered',
    (error: unknown) => (isPyroError(error) && error.code !== 'internal' ? error.code : error),
  )

const forever = (stream: Parameters<Answer>[0], piece: Uint8Array): void => {
  const more = (): void => {
    while (!stream.destroyed && stream.write(piece)) continue
  }
  stream.on('drain', more)
  more()
}

const HOSTILITIES: Record<string, Answer> = {
  silence: () => undefined,
  garbage: (stream) => {
    stream.respond({ ':status': 200 })
    forever(stream, Buffer.alloc(16_384, '{"'))
  },
  'endless output': (stream) => {
    stream.respond({ ':status': 200 })
    stream.write(frames(STARTED))
    forever(stream, encodeFrame(FRAME.stdout, Buffer.alloc(MIB, 'y')))
  },
  'an absurd end': answering(
    frames(STARTED, [
      FRAME.result,
      { ...EXIT, durationMs: Number.MAX_SAFE_INTEGER, stdoutBytes: Number.MAX_SAFE_INTEGER, stderrBytes: 2 ** 52 },
    ]),
  ),
  'a listing of strangers': (stream, path) => {
    stream.respond({ ':status': 200 })
    const commands = Array.from({ length: 90_000 }, (_, index) => ({
      id: `../../${index}`,
      running: index % 2 === 0,
      exit: null,
      cursor: 0,
    }))
    stream.end(path === '/v1/commands' ? JSON.stringify({ commands }) : '{}')
  },
  'dropped streams': (stream) => stream.close(8),
}

/** The link is the same on every driver: where starting is cheap all of them are tried at once, elsewhere the worst. */
const EVERY_HOSTILITY: ReadonlySet<string> = new Set(['fake'])
const THE_WORST = 'an absurd end'
const hostilitiesOn = (driver: string): string[] =>
  EVERY_HOSTILITY.has(driver) ? Object.keys(HOSTILITIES) : [THE_WORST]

const hostility = (name: string): Answer => {
  const answer = HOSTILITIES[name]
  if (answer === undefined) throw new Error(`there is no hostility "${name}"`)
  return answer
}

interface Besieged {
  readonly ws: Workspace
  readonly identity: Identity
  readonly socket: string
}

/** A workspace whose own agent no longer moves. */
const besiegedWorkspace = async (driver: TestedDriver): Promise<Besieged> => {
  const ws = await markedWorkspace(world, driver)
  const identity = identityOf(ws)
  const socket = join(runtimeFolder(world), 'sandboxes', identity.sandboxId, 'channel', 'engine.sock')
  signalAll((await sandboxOf(world, ws.id)).inside, 'SIGSTOP')
  return { ws, identity, socket }
}

describe('a sandbox whose agent was replaced by a hostile one', () => {
  onEveryDriver('hostile.agent', async (driver) => {
    await using other = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    await using all = new AsyncDisposableStack()
    const besieged: (Besieged & { readonly name: string })[] = []
    for (const name of hostilitiesOn(driver)) {
      const one = await besiegedWorkspace(driver)
      all.use(one.ws)
      besieged.push({ ...one, name })
    }
    await world.restartEngine()
    const pid = await world.enginePid()
    const before = await engineMemoryMib()
    const othersAreWell = async (): Promise<void> => {
      expect(await timed(() => other.exec('echo works', { check: true }))).toBeLessThan(OTHERS_MS)
      const phases = (await world.pyro.workspaces.list()).map(({ phase }) => phase)
      expect(new Set(phases)).toEqual(new Set(['running']))
      expect(await world.enginePid()).toBe(pid)
      expect(await engineMemoryMib()).toBeLessThan(before + MEMORY_MIB)
    }
    const sieges = besieged.map(({ name, ws, identity, socket }) =>
      during(name, async () => {
        using _agent = await FakeAgent.dial(socket, identity, hostility(name))
        const stop = AbortSignal.timeout(HOSTILE_MS)
        const calls = [
          ws.exec('true', { signal: stop }),
          ws.files.read('/etc/hostname', { root: '/', signal: stop }),
          ws.snapshots.create('never', { signal: stop }).then((made) => ws.snapshots.delete(made.name)),
        ].map(endOf)
        await othersAreWell()
        expect(await Promise.all(calls)).toSatisfy((ends: unknown[]) => ends.every((end) => typeof end === 'string'))
        await othersAreWell()
      }),
    )
    await Promise.all(sieges)
    // A new engine meets it, too.
    await world.restartEngine()
    for (const { ws, identity, socket } of besieged) {
      using _again = await FakeAgent.dial(socket, identity, hostility('a listing of strangers'))
      expect(await timed(() => other.exec('echo works', { check: true }))).toBeLessThan(OTHERS_MS)
      await ws.reset({ snapshot: 'kept' })
      expect(await markOf(ws)).toBe('kept')
    }
    await expectInOrder(world)
  })

  onEveryDriver('hostile.dial-ins', async (driver) => {
    await using other = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    await using ws = await markedWorkspace(world, driver)
    const dial = `use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; my $path = '/run/pyro/channel/engine.sock'; my @held;
      my $end = time + 3;
      while (time < $end) {
        my $s = IO::Socket::UNIX->new(Peer => $path) or next;
        print $s 'x' x 70000, qq(\\nPYRO {"nonce":"0","token":"guess"}\\n);
        push @held, $s; shift @held if @held > 50;
      }`
    const before = await engineMemoryMib()
    const flood = await ws.exec(['perl', '-e', dial], { detach: true })
    for (let round = 0; round < 5; round++) {
      expect((await ws.exec('echo mine')).stdout).toBe('mine\n')
      expect(await timed(() => other.exec('echo works', { check: true }))).toBeLessThan(OTHERS_MS)
    }
    expect(await flood.wait()).toMatchObject({ exitCode: 0 })
    expect(await engineMemoryMib()).toBeLessThan(before + MEMORY_MIB)
    expect(await markOf(ws)).toBe('now')
  })
})
