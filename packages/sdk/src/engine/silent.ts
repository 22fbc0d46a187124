import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { PyroError } from '@pyro/protocol/client'

/** An engine has the socket and gives no answer: it is stopped, stuck, or the host is. */
export const silentEngine = (socket: string, waitedMs: number): PyroError => {
  const pid = listenerOf(socket)
  const who = pid === null ? 'an engine' : `an engine (pid ${pid})`
  const way = pid === null ? 'pyro daemon logs' : `kill -KILL ${pid} ends it, sandboxes live on`
  return new PyroError('engine.unreachable', `${who} has ${socket} and did not answer within ${waitedMs / 1000} s`, {
    hint: `wait and try again; ${way}`,
    data: { pid, socket },
  })
}

/** A row of /proc/net/unix that listens: its inode and its path. */
const LISTENING = /^\S+ \S+ \S+ 00010000 \S+ \S+ +(\d+) (.*)$/gm

/** Null where the process is not in sight, e.g. one of another namespace. */
const listenerOf = (socket: string): number | null => {
  const rows = [...readFileSync('/proc/net/unix', 'utf8').matchAll(LISTENING)]
  const inode = rows.find(([, , path]) => path === socket)?.[1]
  if (inode === undefined) return null
  const pid = readdirSync('/proc').find((name) => /^\d+$/.test(name) && hasOpen(name, `socket:[${inode}]`))
  return pid === undefined ? null : Number(pid)
}

/** Processes and their files come and go; those of others are not shown to everybody. */
const UNSEEN = ['ENOENT', 'ESRCH', 'EACCES', 'EPERM']

const hasOpen = (pid: string, target: string): boolean => {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((file) => linkOf(`/proc/${pid}/fd/${file}`) === target)
  } catch (error) {
    if (UNSEEN.includes(String((error as NodeJS.ErrnoException).code))) return false
    throw error
  }
}

const linkOf = (path: string): string | null => {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (UNSEEN.includes(String((error as NodeJS.ErrnoException).code))) return null
    throw error
  }
}
