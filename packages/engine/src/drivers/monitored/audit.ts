import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { DriverObject } from '../../driver/driver.ts'
import type { EngineConfig } from '../../lib/config.ts'
import { errnoOf, listProcesses } from '../../process/identity.ts'
import { parseMountinfo, type CgroupHost } from './cgroup-host.ts'
import { listSandboxCgroups } from './sandbox-cgroup.ts'
import { sandboxesFolder, sandboxPaths } from './sandbox-paths.ts'

/** Everything of this home's sandboxes that this host shows: folders, sockets, processes, control groups, mounts. */
export async function auditSandboxes(config: EngineConfig, cgroups: CgroupHost | null): Promise<DriverObject[]> {
  const folder = sandboxesFolder(config.runtimeDir)
  const [folders, processes, groups, mounts] = await Promise.all([
    auditFolders(config.runtimeDir, folder),
    auditProcesses(folder),
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

/** Monitors and runtimes carry a path of the sandbox's folder in their arguments. */
async function auditProcesses(folder: string): Promise<DriverObject[]> {
  return (await listProcesses()).flatMap(({ pid, argv }): DriverObject[] => {
    const path = argv.find((argument) => argument.startsWith(`${folder}/`))
    const sandboxId = path?.slice(folder.length + 1).split('/')[0]
    if (sandboxId === undefined) return []
    return [{ kind: 'process', id: String(pid), sandboxId, detail: argv.slice(0, 3).join(' ') }]
  })
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
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))
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
