import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EXIT } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { rejectionOf } from '../support/rejection.ts'
import { ENVIRONMENT, World } from '../support/world.ts'

const ENGINE = fileURLToPath(new URL('../../packages/engine/bin/pyro-engine.js', import.meta.url))
const FIX = 'apt-get install -t bookworm-backports qemu-system-x86'

const program = (path: string, script: string): void => {
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
}

/** An engine whose `qemu-system-x86_64` is the script `qemu` of this folder. */
let folder: string
let world: World
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pyro-old-qemu-'))
  program(join(folder, 'engine'), `PATH=${folder}:$PATH exec ${process.execPath} ${ENGINE}`)
  world = await World.open({ env: { PYRO_ENGINE: join(folder, 'engine') } })
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

const installQemu = async (script: string): Promise<void> => {
  program(join(folder, 'qemu-system-x86_64'), script)
  await world.restartEngine()
}

describe('a qemu that cannot do what machines need', () => {
  test.each([
    [
      'that of Debian 12',
      'echo "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"',
      'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18) is too old: 8.2 is needed',
    ],
    ['the last one before', 'echo version 8.1.9', 'version 8.1.9 is too old: 8.2 is needed'],
    ['one that says nothing', 'true', 'the program qemu-system-x86_64 tells no version'],
    [
      'one that does not run',
      'echo no such library >&2; exit 127',
      'the program qemu-system-x86_64 tells no version: no such library',
    ],
  ])('is refused with the way to a newer one, and nothing is left: %s', async (_which, script, detail) => {
    await installQemu(script)
    expect(await rejectionOf(createOn(world, 'qemu'))).toMatchObject({
      code: 'driver.unavailable',
      message: `driver qemu does not work on this host: ${detail}`,
      hint: FIX,
      data: { driver: 'qemu', detail },
    })
    const { capabilities } = await world.pyro.doctor()
    expect(capabilities.find(({ id }) => id === 'driver-qemu')).toMatchObject({ ok: false, detail, fix: FIX })
    const { code, stderr } = await world.cli(['workspace', 'create', ENVIRONMENT, '--driver', 'qemu'])
    expect(code).toBe(EXIT.unsupported)
    expect(stderr).toContain(`hint: ${FIX}`)
    expect(await world.pyro.workspaces.list()).toEqual([])
  })

  test('leaves a workspace of a newer one as it is', async () => {
    rmSync(join(folder, 'qemu-system-x86_64'), { force: true })
    await world.restartEngine()
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    await ws.exec('echo kept > kept', { check: true })
    await ws.stop()
    await installQemu('echo QEMU emulator version 7.2.22')
    expect(await rejectionOf(ws.start())).toMatchObject({ code: 'driver.unavailable', hint: FIX })
    expect(await ws.status()).toMatchObject({ phase: 'stopped', generation: 1 })
    rmSync(join(folder, 'qemu-system-x86_64'))
    await world.restartEngine()
    await ws.start()
    expect((await ws.exec('cat kept', { check: true })).stdout).toBe('kept\n')
  })
})
