import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { attemptIn, hostProbe, outcomesOf, PROBE, probeFolder } from '../support/probe.ts'
import { World } from '../support/world.ts'

const run = promisify(execFile)
const EVERYTHING = '/bin /sbin /usr /lib /lib64 /etc /root /home /opt /srv /var'
/** Signals in each of the ways there are to send one. */
const WAYS = ['kill', 'tkill', 'tgkill', 'queue', 'threads', 'pidfd', 'owner']

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('a sandbox that is ruined from inside', () => {
  onEveryDriver('limit.no-programs', async (driver) => {
    await using ws = await createOn(world, driver, { seed: { path: probeFolder() } })
    const works = async (): Promise<void> => {
      const shell = await ws.exec('echo hello')
      expect(shell).toMatchObject({ exitCode: 127 })
      expect(shell.stderr).toContain('/bin/sh')
      expect((await ws.exec([PROBE, 'use', 'files', '3'], { check: true })).stdout).toContain('"count":3')
      await ws.files.write('/workspace/note', 'written\n')
      expect((await ws.files.read('/workspace/note')).text).toBe('written\n')
      expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    }
    // Until rm itself and its libraries are gone.
    await ws.exec(`rm -rf --no-preserve-root ${EVERYTHING}`)
    await works()
    const { result } = await ws.diff({ root: '/', patch: false })
    expect(result.totals.deleted).toBeGreaterThan(1_000)
    expect(result.entries.filter(({ status }) => status === 'added').map(({ path }) => path)).toEqual([
      'workspace/note',
    ])
    const output = join(world.folder, `note-${driver}`)
    await ws.export('/workspace/note', { output })
    expect(readFileSync(output, 'utf8')).toBe('written\n')
    await ws.snapshots.create('ruin')
    await ws.stop()
    await ws.start()
    await works()
    await ws.reset({ snapshot: 'ruin' })
    await works()
    await ws.reset()
    expect((await ws.exec('echo hello', { check: true })).stdout).toBe('hello\n')
    expect((await ws.diff({ root: '/' })).result.entries).toEqual([])
  })

  onEveryDriver('limit.kill-everything', async (driver) => {
    await using ws = await createOn(world, driver)
    const bystander = await ws.exec(['sleep', '600'], { detach: true })
    await ws.exec(
      'sleep 600 & setsid sleep 600 & kill -9 -1; kill -STOP -1; kill -9 1; kill -STOP 1; echo still here',
      {
        check: true,
      },
    )
    expect(await bystander.wait({ timeoutMs: 60_000 })).toMatchObject({ exitCode: 137, signal: 'KILL', limit: null })
    expect((await ws.exec('ps ax 2>/dev/null || ls -d /proc/[0-9]*', { check: true })).stdout).not.toContain('sleep')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
  })

  onEveryDriver('limit.signals', async (driver) => {
    await using ws = await createOn(world, driver, { seed: { path: probeFolder() } })
    const sent = await attemptIn(
      ws,
      WAYS.map((way) => `signals-${way}=1`),
    )
    // Some kernels have no pidfd; in every other way signals arrive.
    expect(sent.filter(({ succeeded }) => !succeeded).map(({ attempt, detail }) => `${attempt}: ${detail}`)).toEqual(
      driver === 'runsc' ? ['signals-pidfd=1: function not implemented'] : [],
    )
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
  })

  onEveryDriver('limit.init-closed', async (driver) => {
    await using ws = await createOn(world, driver, { seed: { path: probeFolder() } })
    const taken = ['trace', 'memory-of', 'read-memory-of', 'steal-descriptor', 'root-of', 'program-of', 'limit-of']
    const outcomes = await attemptIn(
      ws,
      taken.map((attempt) => `${attempt}=1`),
    )
    expect(outcomes.filter(({ succeeded }) => succeeded)).toEqual([])
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
    // The same attempts on a process of one's own: they are right ones.
    const own = await attemptIn(ws, ['trace=child', 'memory-of=child', 'read-memory-of=child', 'root-of=child'])
    expect(own.filter(({ succeeded }) => !succeeded)).toEqual([])
    const outside = ['limit-of=child', 'steal-descriptor=child']
    const { stdout } = await run(hostProbe(), ['try', ...outside])
    expect(outcomesOf(stdout).filter(({ succeeded }) => !succeeded)).toEqual([])
  })
})
