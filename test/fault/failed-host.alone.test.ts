import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { markedWorkspace, markOf, SMALL } from './killed-engine.ts'

/** More than any host has: the pool cannot grow. */
const NO_GROWTH_MIB = '1000000000'

const RUNTIMES: readonly string[] = ['runc', 'runsc', 'unshare']
const VMM = 'qemu-system-x86_64'

let world: World
let tools: string
beforeAll(async () => {
  tools = mkdtempSync(join(tmpdir(), 'pyro-tools-'))
  for (const name of RUNTIMES) writeTool(name)
  writeVmm(VMM)
  world = await World.open({ env: { PATH: `${tools}:${process.env['PATH'] ?? ''}`, PYRO_POOL_STEP_MIB: '1024' } })
})
afterAll(async () => {
  const path = process.env['PATH']?.slice(tools.length + 1)
  await world[Symbol.asyncDispose]()
  process.env['PATH'] = path
  rmSync(tools, { recursive: true })
})

/** The real runtime, until it is broken: then it makes nothing, and says so. */
const writeTool = (name: string): void => {
  const real = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()
  const script = `#!/bin/sh
if [ -e '${tools}/broken' ]; then
  case "$*" in *create*|*--pid*) echo 'no luck today' >&2; exit 1 ;; esac
fi
exec ${real} "$@"
`
  writeFileSync(join(tools, name), script)
  chmodSync(join(tools, name), 0o755)
}

/** A VMM runs where there is no shell: the program itself, until it is broken. */
const writeVmm = (program: string): void => {
  const path = execFileSync('which', [program], { encoding: 'utf8' }).trim()
  execFileSync('cp', ['-p', path, join(tools, VMM)])
}

/** The runtime fails while this is held. */
const broken = (): Disposable => {
  mkdirSync(join(tools, 'broken'))
  renameSync(join(tools, VMM), join(tools, `${VMM}.whole`))
  writeVmm('false')
  return {
    [Symbol.dispose]: () => {
      rmSync(join(tools, 'broken'), { recursive: true })
      renameSync(join(tools, `${VMM}.whole`), join(tools, VMM))
    },
  }
}

describe('a host that fails an operation', () => {
  onEveryDriver('failed.no-start', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const command = await ws.exec('sleep 600', { detach: true })
    const { generation, resetCount } = await ws.status()
    {
      using _broken = broken()
      const failed = (kept: string) => ({
        code: 'workspace.start-failed',
        message: expect.stringContaining(kept) as string,
        hint: expect.stringContaining('pyro') as string,
      })
      await expect(ws.reset({ snapshot: 'kept' })).rejects.toMatchObject(failed('it is running as before'))
      const create = world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, name: 'made', ...SMALL })
      await expect(create).rejects.toMatchObject(failed('nothing was left behind'))
      expect(await ws.status()).toMatchObject({ phase: 'running', generation, resetCount, failure: null })
      expect((await ws.commands.list({ running: true }))[0]?.commandId).toBe(command.commandId)
      expect(await markOf(ws)).toBe('now')
      await ws.stop()
      await expect(ws.start()).rejects.toMatchObject(failed('it is stopped as before'))
      await expect(ws.exec('true')).rejects.toMatchObject(failed('it is stopped as before'))
      await expect(ws.reset()).rejects.toMatchObject(failed('it is stopped as before'))
      expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: failed('it is stopped as before') })
      await expectInOrder(world)
    }
    expect(await markOf(ws)).toBe('now')
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    await ws.reset({ snapshot: 'kept' })
    expect(await markOf(ws)).toBe('kept')
  })

  onEveryDriver('failed.no-space', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    await ws.update({ labels: { kept: 'yes' } })
    await world.restartEngine({ PYRO_HOST_RESERVE_MIB: NO_GROWTH_MIB })
    try {
      await ws.exec('cat /dev/zero > /workspace/fill; sync', { timeoutMs: 60_000 })
      const full = { code: 'disk.full', message: expect.stringContaining('nothing was changed') as string }
      await expect(ws.reset({ snapshot: 'kept' })).rejects.toMatchObject(full)
      await expect(ws.reset({ snapshot: 'kept', saveAs: 'saved' })).rejects.toMatchObject({ code: 'disk.full' })
      expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, snapshots: ['baseline', 'kept'] })
      // Full inside is all that happens: nothing became read-only, and room that is made is room.
      await ws.exec('rm /workspace/fill', { check: true })
      expect(await markOf(ws)).toBe('now')
      const reset = async (): Promise<boolean> => {
        try {
          await ws.reset({ snapshot: 'kept' })
          return true
        } catch (error) {
          expect(error).toMatchObject({ code: 'disk.full' })
          return false
        }
      }
      await until(reset, 'the space of the file', 40_000)
      expect(await markOf(ws)).toBe('kept')
      await expectInOrder(world)
    } finally {
      await world.restartEngine({ PYRO_HOST_RESERVE_MIB: '256' })
    }
  })
})
