import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vmmSpec } from '@pyro/protocol/guest'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FirecrackerApi } from './api.ts'
import { boot, bootRequests, continueTemplate, save } from './machine.ts'
import { TestServer } from './test-server.ts'
import { sandboxVmm, templateVmm, type FirecrackerHost } from './vmm-spec.ts'

let folder: string
let socket: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pyro-machine-'))
  socket = join(folder, 'api.sock')
})
afterEach(() => rm(folder, { recursive: true }))

const MACHINE = {
  vcpus: 2,
  memoryMib: 512,
  commandsMib: 256,
  disks: [
    { bytes: 1024, writable: true },
    { bytes: 2048, writable: false },
  ],
}
const connect = (): Promise<FirecrackerApi> => FirecrackerApi.connect(socket, new AbortController().signal)
const drive = (id: string, file: string, readOnly: boolean): object => ({
  method: 'PUT',
  path: `/drives/${id}`,
  body: {
    drive_id: id,
    path_on_host: file,
    is_root_device: false,
    is_read_only: readOnly,
    cache_type: 'Writeback',
    io_engine: 'Sync',
  },
})

describe('a template', () => {
  test('is booted with the disk of its config first, and saved while it stands still', async () => {
    await using server = await TestServer.listen(socket)
    const api = await connect()
    await boot(api, MACHINE)
    expect(server.machine.state).toBe('Running')
    expect(server.seen).toEqual([
      {
        method: 'PUT',
        path: '/machine-config',
        body: { vcpu_count: 2, mem_size_mib: 512, smt: false, track_dirty_pages: false },
      },
      {
        method: 'PUT',
        path: '/boot-source',
        body: {
          kernel_image_path: '/pyro/vmlinuz',
          initrd_path: '/pyro/initramfs.img',
          boot_args: 'console=ttyS0 quiet reboot=k panic=-1 rcupdate.rcu_expedited=1 rdinit=/pyro-agent -- machine 256',
        },
      },
      drive('config', '/pyro/config.raw', true),
      drive('disk0', '/pyro/disk0.raw', false),
      drive('disk1', '/pyro/disk1.raw', true),
      { method: 'PUT', path: '/vsock', body: { guest_cid: 3, uds_path: '/pyro/sockets/link.sock' } },
      { method: 'PUT', path: '/actions', body: { action_type: 'InstanceStart' } },
    ])
    server.seen.length = 0
    await save(api)
    expect(server.machine.state).toBe('Paused')
    expect(server.seen).toEqual([
      { method: 'PATCH', path: '/vm', body: { state: 'Paused' } },
      {
        method: 'PUT',
        path: '/snapshot/create',
        body: { snapshot_type: 'Full', snapshot_path: '/pyro/state', mem_file_path: '/pyro/memory' },
      },
    ])
  })

  test('is booted no further than the first refusal', async () => {
    await using server = await TestServer.listen(socket)
    const api = await connect()
    await expect(boot(api, { ...MACHINE, vcpus: 33 })).rejects.toMatchObject({
      data: { request: 'PUT /machine-config' },
    })
    expect(server.seen).toHaveLength(1)
    await expect(save(api)).rejects.toMatchObject({ data: { request: 'PATCH /vm' } })
    expect(server.machine.state).toBe('Not started')
  })

  test('is another one for a machine whose disks differ in what may be done with them', () => {
    const readOnly = { ...MACHINE, disks: MACHINE.disks.map(({ bytes }) => ({ bytes, writable: false })) }
    expect(JSON.stringify(bootRequests(readOnly))).not.toBe(JSON.stringify(bootRequests(MACHINE)))
  })
})

describe('a sandbox', () => {
  test('continues the template in a fresh process', async () => {
    await using server = await TestServer.listen(socket)
    let stoodStill = false
    const loaded = (): Promise<void> => {
      stoodStill = server.machine.state === 'Paused'
      return Promise.resolve()
    }
    await continueTemplate(await connect(), loaded)
    expect(stoodStill).toBe(true)
    expect(server.machine.state).toBe('Running')
    expect(server.seen).toEqual([
      {
        method: 'PUT',
        path: '/snapshot/load',
        body: {
          snapshot_path: '/pyro/state',
          mem_backend: { backend_type: 'File', backend_path: '/pyro/memory' },
          track_dirty_pages: false,
          resume_vm: false,
        },
      },
      { method: 'PATCH', path: '/vm', body: { state: 'Resumed' } },
    ])
  })

  test('is not resumed when its template cannot be loaded', async () => {
    await using server = await TestServer.listen(socket)
    await boot(await connect(), MACHINE)
    server.seen.length = 0
    const refused = continueTemplate(await connect(), () => expect.unreachable())
    await expect(refused).rejects.toMatchObject({ data: { request: 'PUT /snapshot/load' } })
    expect(server.seen.map(({ path }) => path)).toEqual(['/snapshot/load'])
  })
})

describe('the root of Firecracker', () => {
  const host: FirecrackerHost = {
    program: '/usr/local/bin/firecracker',
    programMounts: [{ source: '/usr/local/bin/firecracker', target: '/usr/local/bin/firecracker', access: 'read' }],
    kvm: { mount: { source: '/dev/kvm', target: '/dev/kvm', access: 'device' as const }, groups: [106] },
  }
  const files = { owner: 7, sockets: '/s', config: '/c', memory: '/m', state: '/t' }
  const template = templateVmm(host, { ...files, kernel: '/k', initramfs: '/i', disks: ['/d0', '/d1'] })
  const sandbox = sandboxVmm(host, {
    ...files,
    channel: '/ch',
    disks: [
      { path: '/v/disk.raw', writable: true },
      { path: '/w/disk.raw', writable: false },
    ],
  })

  test('has at the same paths what a template was made with and what a sandbox has of its own', () => {
    const named = bootRequests(MACHINE)
      .flatMap(({ body }) => Object.values(body ?? {}))
      .filter((value) => typeof value === 'string')
      .filter((value) => value.startsWith('/pyro/'))
      .map((path) => path.replace(/\/link\.sock$/, ''))
    const shown = ({ mounts }: typeof template): string[] => mounts.map(({ target }) => target)
    expect(shown(template)).toEqual(expect.arrayContaining(named))
    // A machine that goes on has booted.
    expect(shown(sandbox)).toEqual(expect.arrayContaining(named.filter((path) => !/vmlinuz|initramfs/.test(path))))
  })

  test('has the memory and state of a template read-only once they are made', () => {
    const accessOf = (mounts: typeof template.mounts, target: string): string | undefined =>
      mounts.find((mount) => mount.target === target)?.access
    for (const target of ['/pyro/memory', '/pyro/state']) {
      expect(accessOf(template.mounts, target)).toBe('write')
      expect(accessOf(sandbox.mounts, target)).toBe('read')
    }
  })

  test('has the disks of a sandbox as its own, the frozen ones to read, and no engine while a template is made', () => {
    expect(sandbox.mounts.filter(({ access }) => access.startsWith('own-'))).toEqual([
      { source: '/v/disk.raw', target: '/pyro/disk0.raw', access: 'own-write' },
      { source: '/w/disk.raw', target: '/pyro/disk1.raw', access: 'own-read' },
    ])
    expect(template.mounts.map(({ target }) => target)).not.toContain('/pyro/channel')
    expect(sandbox.mounts.map(({ target }) => target)).toContain('/pyro/channel')
  })

  test('is one that the agent takes', () => {
    for (const spec of [template, sandbox]) {
      expect(vmmSpec.parse(spec)).toEqual(spec)
      expect(spec).toMatchObject({ id: 7, groups: [106], files: [], listen: '' })
    }
  })
})
