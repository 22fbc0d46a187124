import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect } from 'vitest'
import { hashOf } from '../support/host-sight.ts'
import type { World } from '../support/world.ts'

/** What is released in the background may take this long. */
const SETTLE_MS = 60_000
const POLL_MS = 50
const SANDBOX = /ws-[a-z2-7]{12}-g\d+/

/**
 * Asserts that the host has exactly what the workspaces of a home need: a sandbox with its monitor for each that runs, one disk
 * and the listed snapshots for every one, and nothing else; no operation and no release is left over in the store.
 */
export const expectInOrder = async (world: World): Promise<void> => {
  const deadline = Date.now() + SETTLE_MS
  for (;;) {
    const wanted = await wantedThings(world)
    const seen = await seenThings(world)
    if (wanted.join('\n') === seen.join('\n')) return
    if (Date.now() > deadline) expect(seen).toEqual(wanted)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Folder of a home's volatile state. */
export const runtimeFolder = (world: World): string => join(world.runtimeDir, hashOf(world.home))

const wantedThings = async (world: World): Promise<string[]> => {
  const records = await world.pyro.workspaces.list()
  return [
    'engines: 1',
    ...records.flatMap(({ workspaceId, phase, generation, snapshots }) => [
      ...(phase === 'running'
        ? [`monitors of ${workspaceId}-g${generation}: 1`, `sandbox ${workspaceId}-g${generation}`]
        : []),
      `disks of ${workspaceId}: 1`,
      `snapshots of ${workspaceId}: ${snapshots.length}`,
    ]),
  ].sort()
}

const seenThings = async (world: World): Promise<string[]> => {
  const { processes, lines } = await world.sight()
  const folder = runtimeFolder(world)
  const sandboxes = new Set(listOrNone(join(folder, 'sandboxes')))
  for (const line of lines) {
    const sandbox = SANDBOX.exec(line)?.[0]
    if (sandbox !== undefined) sandboxes.add(sandbox)
  }
  const monitors = processes.flatMap(({ what }) => (what.includes(' monitor ') ? (SANDBOX.exec(what)?.[0] ?? []) : []))
  return [
    `engines: ${processes.filter(({ what }) => what.startsWith('pyro-engine')).length}`,
    ...count(monitors).map(([sandbox, times]) => `monitors of ${sandbox}: ${times}`),
    ...[...sandboxes].map((sandbox) => `sandbox ${sandbox}`),
    ...volumes(folder),
    ...listOrNone(join(world.home, 'tmp'))
      .filter((name) => name !== 'environments')
      .map((name) => `temporary ${name}`),
    ...unfinished(world),
  ].sort()
}

const volumes = (folder: string): string[] => {
  const names = listOrNone(join(folder, 'volumes')).filter(
    (name) => !/^env-[0-9a-f]{16}(\.\d+m)?$/.test(name) && name !== '.complete',
  )
  const kinds = names.map((name) => {
    const [, workspace, kind] = /^(ws-[a-z2-7]{12})\.([gs])\d+$/.exec(name) ?? []
    if (workspace === undefined) return `stray volume ${name}`
    return kind === 'g' ? `disks of ${workspace}` : `snapshots of ${workspace}`
  })
  return count(kinds).map(([kind, times]) => `${kind}: ${times}`)
}

/** What the store still has to do. Read as it is, beside the engine. */
const unfinished = (world: World): string[] => {
  const db = new DatabaseSync(join(world.home, 'state.db'), { readOnly: true })
  try {
    return [
      ...db
        .prepare('SELECT operation, subject FROM intents')
        .all()
        .map((row) => `intent ${String(row['operation'])} of ${String(row['subject'])}`),
      ...db
        .prepare('SELECT thing FROM releases')
        .all()
        .map((row) => `release ${String(row['thing'])}`),
    ]
  } finally {
    db.close()
  }
}

const count = (names: readonly string[]): [string, number][] => {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts]
}

const listOrNone = (folder: string): string[] => {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
