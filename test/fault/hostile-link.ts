import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { encodeFrame, encodeJsonFrame, FRAME, type FrameType } from '@pyro/protocol'
import { expect } from 'vitest'
import type { AgentClient } from '../../packages/engine/src/agent/agent-client.ts'
import { AgentLink } from '../../packages/engine/src/agent/agent-link.ts'
import { answering, FakeAgent, type Answer, type Identity } from './fake-agent.ts'

export const ID: Identity = { sandboxId: 'ws-abcdefghijkl-g1', token: 'a'.repeat(64), bootId: 'boot-1' }

/** Cases that go on at one time. */
const AT_ONCE = 16
/** Longer than a busy host takes to link, or to answer. */
export const PATIENCE_MS = 30_000

export interface Linked {
  readonly link: AgentLink
  readonly path: string
}

/** The engine's end of a link that nobody has dialled. */
export const withLink = async <T>(work: (linked: Linked) => Promise<T>): Promise<T> => {
  const folder = mkdtempSync(join(tmpdir(), 'pyro-hostile-'))
  try {
    const path = join(folder, 'engine.sock')
    await using link = await AgentLink.listen({
      ...ID,
      bootId: null,
      socketPath: path,
      stagingPath: `${path}.new`,
      owner: 0,
      ownClock: false,
    })
    return await work({ link, path })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** A link whose agent answers like this. */
export const withAgent = <T>(answer: Answer, work: (agent: AgentClient, linked: Linked) => Promise<T>): Promise<T> =>
  withLink(async (linked) => {
    using _fake = await FakeAgent.dial(linked.path, ID, answer)
    await linked.link.session({ timeoutMs: PATIENCE_MS })
    return await work(linked.link.agent, linked)
  })

/** All cases, several at one time. */
export const each = async <T>(cases: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> => {
  expect(cases.length).toBeGreaterThan(0)
  const left = [...cases.entries()]
  const workers = Array.from({ length: AT_ONCE }, async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, one] = next
      try {
        await work(one)
      } catch (error) {
        throw new Error(`case ${index} (${JSON.stringify(one)?.slice(0, 200)}): ${String(error)}`, { cause: error })
      }
    }
  })
  await Promise.all(workers)
}

/** What every failure that the agent is to blame for says: its code, and whose agent it is. */
export const blamed = (about = '') => ({
  code: 'sandbox.unreachable',
  message: expect.stringMatching(new RegExp(`^sandbox ${ID.sandboxId}: .*${about}`, 's')) as string,
})

export const BROKEN = 'the agent broke the protocol'

export const frames = (...parts: readonly (readonly [FrameType, unknown])[]): Buffer =>
  Buffer.concat(
    parts.map(([type, payload]) =>
      payload instanceof Uint8Array ? encodeFrame(type, payload) : encodeJsonFrame(type, payload),
    ),
  )

export const json = (value: unknown, status = 200): Answer => answering(JSON.stringify(value), status)

export const STARTED = [FRAME.event, { type: 'started', pid: 1 }] as const
export const EXIT = {
  exitCode: 0,
  signal: null,
  timedOut: false,
  startError: null,
  durationMs: 1,
  stdoutBytes: 0,
  stderrBytes: 0,
  pidsLimited: false,
  memoryLimited: false,
  diskLimited: false,
}

/** Reads a command to its end. */
export const readOut = async (agent: AgentClient): Promise<unknown> => {
  const output = await agent.attach('cmd-a', 0, { timeoutMs: PATIENCE_MS })
  let bytes = 0
  for await (const { data } of output) bytes += data.length
  return { bytes, exit: await output.exit }
}

export const readFile = (agent: AgentClient): Promise<unknown> =>
  agent.readFile({ root: '/', path: 'a', startLine: null, maxLines: null, offset: 0, maxBytes: 10 })

export const writeFile = (agent: AgentClient): Promise<unknown> =>
  agent.writeFile({ root: '/', path: 'a', dataBase64: '', mode: null, oldTextBase64: null, replaceAll: false })

export const extract = (agent: AgentClient): Promise<unknown> =>
  agent.extract({ dest: '/a', delete: false, limits: { entries: 1, bytes: 1, pathBytes: 1 } }, Readable.from([]))
