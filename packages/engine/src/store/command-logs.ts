import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Store } from './store.ts'

/** Removes the logs of commands that the store no longer knows; the whole folder when it knows none. */
export const removeStaleLogs = async (store: Store, logFolder: string, workspaceId: string): Promise<void> => {
  const folder = join(logFolder, workspaceId)
  if (store.commands.count(workspaceId) === 0) {
    await rm(folder, { recursive: true, force: true })
    return
  }
  for (const name of await listOrNone(folder)) {
    const id = name.replace(/\.log$/, '')
    if (store.commands.get(id) === null) await rm(join(folder, name), { force: true })
  }
}

/** Workspaces that have a folder of logs. */
export const listLogFolders = (logFolder: string): Promise<string[]> => listOrNone(logFolder)

/** Commands of a workspace that have a log. */
export const listLogs = async (logFolder: string, workspaceId: string): Promise<string[]> =>
  (await listOrNone(join(logFolder, workspaceId))).map((name) => name.replace(/\.log$/, ''))

export const removeLogFolder = (logFolder: string, workspaceId: string): Promise<void> =>
  rm(join(logFolder, workspaceId), { recursive: true, force: true })

const listOrNone = async (folder: string): Promise<string[]> => {
  try {
    return await readdir(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
