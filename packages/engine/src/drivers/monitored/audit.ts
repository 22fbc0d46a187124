import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { DriverObject } from '../../driver/driver.ts'
import type { EngineConfig } from '../../lib/config.ts'
import { errnoOf, processId } from '../../process/identity.ts'
import type { CgroupHost } from '../../process/cgroup-host.ts'
import { readMounts } from '../../process/mountinfo.ts'
import { readArgv } from '../../process/process-table.ts'
import { listSandboxCgroups } from './sandbox-cgroup.ts'
import { sandboxesFolder, sandboxPaths } from './sandbox-paths.ts'
import { findSandboxProcesses } from './sandbox-processes.ts'

/** Everything of this home's sandboxes that this host shows: folders, sockets, processes, control groups, mounts. */
export async function auditSandboxes(config: EngineConfig, cgroups: CgroupHost | null): Promise<DriverObject[]> {
  const folder = sandboxesFolder(config.runtimeDir)
  const [folders, processes, groups, mounts] = await Promise.all([
    auditFolders(config.runtimeDir, folder),
    auditProcesses(config.runtimeDir),
    cgroups === null ? [] : auditCgroups(cgroups, basename(config.runtimeDir)),
    auditMounts(folder),
  ])
  return [...folders, ...processes, ...groups, ...mounts]
}

async function auditFolders(runtimeDir: string, folder: string): Promise<DriverObject[]> {
  const objects: DriverObject[] = []
  for (const name of await names(folder)) {
    objects.push({ kind: 'folder', id: join(folder, name), sandboxId: name, detail: 'files of a sandbox' })
    const paths = sandboxPaths(runtimeDir, name)
    for (const socket of await names(paths.channel))
      objects.push({ kind: 'socket', id: join(paths.channel, socket), sandboxId: name, detail: 'channel of a sandbox' })
  }
  return objects
}

async function auditProcesses(runtimeDir: string): Promise<DriverObject[]> {
  const processes = await findSandboxProcesses(runtimeDir)
  return Promise.all(
    processes.map(async ({ pid, startTime, sandboxId, command }) => {
      const [program = command, ...args] = (await readArgv(pid)).slice(0, 3)
      return { kind: 'process', id: processId({ pid, startTime }), sandboxId, detail: [program, ...args].join(' ') }
    }),
  )
}

async function auditCgroups(host: CgroupHost, homeName: string): Promise<DriverObject[]> {
  return [...(await listSandboxCgroups(host, homeName))].map(([path, sandboxId]) => ({
    kind: 'cgroup',
    id: path,
    sandboxId,
    detail: 'limits of a sandbox',
  }))
}

async function auditMounts(folder: string): Promise<DriverObject[]> {
  return (await readMounts())
    .filter(({ point }) => point.startsWith(`${folder}/`))
    .map(({ point, type }) => ({
      kind: 'mount',
      id: point,
      sandboxId: point.slice(folder.length + 1).split('/')[0] ?? null,
      detail: type,
    }))
}

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return []
    throw error
  }
}
