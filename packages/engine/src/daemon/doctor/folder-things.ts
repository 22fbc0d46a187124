import { lstat, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Leak } from '@pyro/protocol'
import { errnoOf } from '../../process/identity.ts'
import { listLogFolders, listLogs, removeLogFolder } from '../../store/command-logs.ts'
import { commandLogFolder } from '../../workspace/workspace.ts'
import type { Engine } from '../engine.ts'
import { predatesState } from './state-age.ts'
import { NOBODY, workspaceIdIn, type Claim, type Thing } from './thing.ts'

/** What belongs in the runtime folder, as docs/on-disk-layout.md lists it; sandboxes are looked into by their drivers. */
const RUNTIME_ENTRY = /^(engine\.sock|volumes|sandboxes|agent|probe-[a-z]+\.json)$/
/** The agent binary of one build; other names are half-made copies. */
const AGENT_ENTRY = /^pyro-agent-[0-9a-f]{12}$/
/** The tree and the verdict of a driver that is tried out. */
const PROBE_ENTRY = /^probe-/

/** The control socket of a machine whose template is being made. */
const TEMPLATE_ENTRY = /^template-/

/** Sockets, files and folders of the runtime folder that nothing of ours uses. */
export const runtimeThings = async ({ services }: Engine): Promise<Thing[]> => {
  const { runtimeDir } = services.config
  const listening = await listeningSockets()
  const isBusy = (name: string): boolean => TEMPLATE_ENTRY.test(name) && listening.has(join(runtimeDir, name))
  const strangers = (await namesIn(runtimeDir)).filter((name) => !RUNTIME_ENTRY.test(name) && !isBusy(name))
  const agents = (await namesIn(join(runtimeDir, 'agent'))).filter((name) => !AGENT_ENTRY.test(name))
  const things = await Promise.all(
    [...strangers, ...agents.map((name) => join('agent', name))].map(async (name) => {
      const path = join(runtimeDir, name)
      // In use for as long as a driver is tried out, like the sandbox of the same name.
      const claim: Claim = PROBE_ENTRY.test(name) ? { of: 'sandbox', id: name } : NOBODY
      return entryThing(path, { detail: 'in the runtime folder', claim, certain: !listening.has(path) })
    }),
  )
  return things.filter((thing) => thing !== null)
}

/** What pulls, imports and the making of the pool leave in the home when they are cut off. */
export const temporaryThings = async ({ services }: Engine): Promise<Thing[]> => {
  const { home } = services.config
  const temporary = join(home, 'tmp')
  const environments = join(home, 'environments')
  const paths: { path: string; claim: Claim }[] = []
  for (const name of await namesIn(temporary)) {
    const path = join(temporary, name)
    if (name !== 'environments') paths.push({ path, claim: NOBODY })
    else
      for (const inner of await namesIn(path))
        paths.push({ path: join(path, inner), claim: { of: 'folder', id: join(path, inner) } })
  }
  for (const name of await namesIn(environments)) {
    const path = join(environments, name)
    if (name.startsWith('.new-')) paths.push({ path, claim: { of: 'volume', id: `env-${name.slice('.new-'.length)}` } })
    if (name.startsWith('.gone-')) paths.push({ path, claim: NOBODY })
  }
  paths.push({ path: join(home, 'pool.btrfs.new'), claim: NOBODY })
  const things = await Promise.all(
    paths.map(({ path, claim }) => entryThing(path, { detail: 'left by work that was cut off', claim, certain: true })),
  )
  return things.filter((thing) => thing !== null)
}

/** Logs of workspaces and of commands that nobody knows. */
export const logThings = async ({ services }: Engine): Promise<Thing[]> => {
  const folder = commandLogFolder(services.config.home)
  const things: Thing[] = []
  for (const name of await listLogFolders(folder)) {
    const path = join(folder, name)
    const isKept = await predatesState(services.config.home, path)
    things.push({
      leak: leakOf('folder', path, `logs of no workspace${isKept ? ', older than the state of this home' : ''}`),
      claim: { of: 'workspace', id: name },
      release: isKept ? null : () => removeLogFolder(folder, name),
    })
    for (const command of await listLogs(folder, name)) {
      const file = join(path, `${command}.log`)
      things.push({
        leak: leakOf('folder', file, 'log of no command'),
        claim: { of: 'command', id: command, workspaceId: name },
        release: isKept ? null : () => rm(file, { force: true }),
      })
    }
  }
  return things
}

const leakOf = (kind: Leak['kind'], path: string, detail: string): Leak => ({
  kind,
  id: path,
  workspaceId:
    path
      .split('/')
      .map(workspaceIdIn)
      .find((id) => id !== null) ?? null,
  detail,
})

/** Null when it is gone. */
const entryThing = async (
  path: string,
  about: { readonly detail: string; readonly claim: Claim; readonly certain: boolean },
): Promise<Thing | null> => {
  try {
    const entry = await lstat(path)
    return {
      leak: leakOf(entry.isSocket() ? 'socket' : 'folder', path, about.detail),
      claim: about.claim,
      release: about.certain
        ? (disk) => (entry.isDirectory() ? disk.removeTree(path) : rm(path, { force: true }))
        : null,
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** Paths of sockets that some process has open. */
const listeningSockets = async (): Promise<ReadonlySet<string>> => {
  const lines = (await readFile('/proc/net/unix', 'utf8')).split('\n').slice(1)
  return new Set(lines.flatMap((line) => line.trim().split(/\s+/).slice(7, 8)))
}

const namesIn = async (folder: string): Promise<string[]> => {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
