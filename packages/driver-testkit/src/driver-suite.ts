import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { isPyroError } from '@pyro/protocol'
import type { Driver, Sandbox, SandboxRecord, SandboxSpec } from '@pyro/engine'
import { afterAll, afterEach, beforeAll, describe, test } from 'vitest'
import { ID_BASE } from './disk-store-places.ts'
import { emptyVolume, sandboxSpec, type DriverPlace } from './driver-sandboxes.ts'

const DEADLINE_MS = 60_000
const END_DEADLINE_MS = 60_000
/** Where every driver shows the agent program: all that a tree without any program can run. */
const AGENT = '/run/pyro/agent'
const AGENT_USAGE_EXIT_CODE = 2

export interface DriverSubject {
  readonly name: string
  place(): Promise<DriverPlace>
}

/** What every driver promises at its seam (`driver/driver.ts`), on a tree that holds no program at all. */
export const driverSuite = (subject: DriverSubject): void => {
  describe(`driver ${subject.name}`, () => {
    let place: DriverPlace
    let driver: Driver
    let serial = 0
    const started: SandboxRecord[] = []

    beforeAll(async () => {
      place = await subject.place()
      driver = place.openDriver()
    })
    afterEach(async () => {
      for (const record of started.splice(0)) {
        await driver.reclaim(record)
        await place.disks.remove(record.spec.volume.id)
      }
      assert.deepEqual(await driver.audit(), [], 'nothing of a sandbox is left')
    })
    afterAll(() => place[Symbol.asyncDispose]())

    const newSpec = async (): Promise<SandboxSpec> => {
      const workspaceId = `ws-suite${(serial += 1)}`
      return sandboxSpec(driver, workspaceId, await emptyVolume(place, driver, workspaceId))
    }
    const begin = async (signal = never): Promise<Sandbox> => {
      const spec = await newSpec()
      started.push({ driver: driver.id, spec, details: {} })
      return driver.start(spec, { signal, deadlineMs: DEADLINE_MS })
    }

    test('its probe starts something for real and says what', async () => {
      const { ok, detail } = await driver.probe()
      assert.ok(ok, detail)
      assert.match(detail, /started in \d+ ms/)
    })

    test('a started sandbox answers, runs commands and has a boot id of its own', async () => {
      const [one, other] = [await begin(), await begin()]
      assert.notEqual(one.agent.bootId, other.agent.bootId)
      assert.equal((await one.agent.status()).bootId, one.agent.bootId)
      const command = await one.agent.start('cmd-usage', { ...plain, argv: [AGENT] })
      let said = ''
      for await (const { data } of command) said += data.toString()
      assert.equal((await command.exit).exitCode, AGENT_USAGE_EXIT_CODE)
      assert.match(said, /usage/)
    })

    test('an orderly stop ends it and leaves nothing but the disk', async () => {
      const sandbox = await begin()
      assert.equal(await sandbox.shutDown({ graceMs: 2_000 }), true)
      const exit = await sandbox.stop()
      assert.equal(exit.reason, 'stopped')
      assert.deepEqual(await sandbox.exited, exit)
      assert.deepEqual(await sandbox.stop(), exit, 'stopping twice is the same')
      assert.deepEqual(await driver.audit(), [])
      assert.notEqual(await place.disks.find(sandbox.record.spec.volume.id), null)
    })

    test('a sandbox that is let go lives on, and another engine finds it by its record', async () => {
      const first = await begin()
      const record = JSON.parse(JSON.stringify(first.record)) as SandboxRecord
      await first.release()
      const later = place.openDriver()
      const found = await later.adopt(record, { signal: never, deadlineMs: DEADLINE_MS })
      assert.equal(found.agent.bootId, first.agent.bootId)
      assert.equal((await found.agent.status()).bootId, first.agent.bootId)
      assert.equal((await found.stop()).reason, 'stopped')
    })

    test('the death of a sandbox is noticed, and what is left is reclaimed, as often as one likes', async () => {
      const sandbox = await begin()
      const { pid } = sandbox.record.details
      assert.equal(typeof pid, 'number')
      process.kill(Number(pid), 'SIGKILL')
      const exit = await within(sandbox.exited, 'the end of the sandbox')
      assert.notEqual(exit.reason, 'stopped')
      await sandbox.release()
      await assertCode('sandbox.unreachable', driver.adopt(sandbox.record, { signal: never, deadlineMs: DEADLINE_MS }))
      await driver.reclaim(sandbox.record)
      await driver.reclaim(sandbox.record)
      assert.deepEqual(await driver.audit(), [])
    })

    test('a frozen sandbox does not end in order, and can be ended', async () => {
      const sandbox = await begin()
      process.kill(Number(sandbox.record.details['pid']), 'SIGSTOP')
      const asked = sandbox.shutDown({ graceMs: 100 })
      assert.equal(await within(asked, 'the answer of nobody'), false)
      await within(sandbox.stop(), 'the end of a frozen sandbox')
      assert.deepEqual(await driver.audit(), [])
    })

    test('reclaiming a record that was written before anything was made is no error', async () => {
      const spec = await newSpec()
      await driver.reclaim({ driver: driver.id, spec, details: {} })
      assert.notEqual(await place.disks.find(spec.volume.id), null, 'the disk is left')
      await place.disks.remove(spec.volume.id)
    })

    test('a start that is cancelled, at whatever moment, rejects with the reason and leaves nothing', async () => {
      for (const afterMs of [0, 5, 25, 60]) {
        const cancel = new AbortController()
        const reason = new Error(`cancelled after ${afterMs} ms`)
        const timer = setTimeout(() => cancel.abort(reason), afterMs)
        const outcome = await begin(cancel.signal).then(
          async (sandbox) => sandbox.stop(),
          (error: unknown) => error,
        )
        clearTimeout(timer)
        // On a fast host the sandbox may have been there before.
        if (outcome instanceof Error) assert.equal(outcome, reason)
        assert.deepEqual(await driver.audit(), [], `after ${afterMs} ms`)
      }
    })

    test('the audit names the sandbox of each thing that it finds', async () => {
      const sandbox = await begin()
      const found = await driver.audit()
      assert.ok(found.length > 0)
      const { sandboxId } = sandbox.record.spec
      for (const thing of found) assert.equal(thing.sandboxId, sandboxId, JSON.stringify(thing))
      const kinds = new Set(found.map(({ kind }) => kind))
      for (const kind of ['process', 'socket', 'folder'] as const) assert.ok(kinds.has(kind), kind)
    })

    test('counters of a sandbox that met no limit stand at nothing', async () => {
      const sandbox = await begin()
      assert.deepEqual(await sandbox.counters(), { memory: 0, pids: 0 })
    })

    test('the processes of a sandbox are unprivileged on the host', async () => {
      const sandbox = await begin()
      const status = readFileSync(`/proc/${String(sandbox.record.details['pid'])}/status`, 'utf8')
      const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])
      assert.ok(uid >= ID_BASE || driver.isolation === 'none', `uid ${uid}`)
    })
  })
}

const never = new AbortController().signal
const plain = { cwd: '/', user: null, env: [], timeoutMs: null, stdin: false, holdMs: 0 }

const within = async <T>(promise: Promise<T>, what: string): Promise<T> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${END_DEADLINE_MS} ms for ${what}`)), END_DEADLINE_MS)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

const assertCode = async (code: string, promise: Promise<unknown>): Promise<void> => {
  await assert.rejects(promise, (error) => isPyroError(error) && error.code === code)
}
