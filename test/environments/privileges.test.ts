import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { tarOf } from '../support/tar.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { fileCapability, folder, program, smallLinux } from './root-filesystem.ts'

const SMALL = { memoryMib: 256, diskMib: 1024, vcpus: 1 } as const
const CAP_CHOWN = 0

let world: World
beforeAll(async () => {
  world = await World.open()
  const path = join(world.folder, 'root.tar')
  writeFileSync(
    path,
    tarOf([
      ...smallLinux(),
      folder('srv/worker', { uid: 1234, gid: 4321, mode: 0o2750 }),
      folder('tmp', { mode: 0o1777 }),
      folder('srv/sticky', { mode: 0o3775, gid: 4321 }),
      { name: 'srv/worker/own', uid: 1234, gid: 4321, mode: 0o640 },
      { name: 'srv/last-id', uid: 65_535, gid: 65_535 },
      program('usr/bin/su', { mode: 0o4755 }),
      program('usr/bin/as-staff', { mode: 0o2755, gid: 4321 }),
      { name: 'usr/bin/hard', type: '1', link: 'usr/bin/su' },
      program('opt/plain/chown'),
      program('opt/able/chown', { pax: { 'SCHILY.xattr.security.capability': fileCapability(CAP_CHOWN) } }),
      { name: 'srv/noted', content: 'x', pax: { 'SCHILY.xattr.user.note': 'kept' } },
    ]),
  )
  await world.pyro.environments.import('privileged:1', path)
})
afterAll(() => world[Symbol.asyncDispose]())

describe('an environment', () => {
  onEveryDriver('environment.owners', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: 'privileged:1', driver, ...SMALL })
    const paths = ['/srv/worker', '/srv/worker/own', '/srv/sticky', '/srv/last-id', '/usr/bin/su', '/usr/bin/as-staff']
    const { stdout } = await ws.exec(['/bin/stat', '-c', '%n %a %u:%g %h', ...paths])
    expect(stdout.trim().split('\n')).toEqual([
      expect.stringMatching(/^\/srv\/worker 2750 1234:4321 /),
      '/srv/worker/own 640 1234:4321 1',
      expect.stringMatching(/^\/srv\/sticky 3775 0:4321 /),
      '/srv/last-id 644 65535:65535 1',
      '/usr/bin/su 4755 0:0 2',
      '/usr/bin/as-staff 2755 0:4321 1',
    ])
  })

  onEveryDriver('environment.set-id', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: 'privileged:1', driver, ...SMALL })
    const worker = { user: 'worker' }
    expect((await ws.exec(['/usr/bin/su', '-c', 'id -u'], worker)).stdout).toBe('0\n')
    // Its control: the same program without the bit.
    expect((await ws.exec(['/bin/busybox', 'su', '-c', 'id -u'], worker)).exitCode).not.toBe(0)
  })

  onEveryDriver('environment.file-capability', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: 'privileged:1', driver, ...SMALL })
    const worker = { user: 'worker' }
    const give = (program: string) => ws.exec([program, '0:0', '/srv/worker/own'], worker)
    expect((await give('/opt/plain/chown')).exitCode).not.toBe(0)
    const able = await give('/opt/able/chown')
    expect(able.stderr).toBe('')
    expect((await ws.exec(['/bin/stat', '-c', '%u:%g', '/srv/worker/own'])).stdout).toBe('0:0\n')
  })

  onEveryDriver('environment.catalog-set-id', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    await ws.exec(['useradd', '--create-home', 'dev'], { check: true })
    // What a user learns of its own password is in a file that root alone may read.
    const own = await ws.exec(['passwd', '--status'], { user: 'dev' })
    expect({ exitCode: own.exitCode, stdout: own.stdout }).toEqual({
      exitCode: 0,
      stdout: expect.stringMatching(/^dev L /),
    })
    expect((await ws.exec(['cat', '/etc/shadow'], { user: 'dev' })).exitCode).toBe(1)
  })
})
