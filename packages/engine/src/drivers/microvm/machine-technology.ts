import type { Technology } from '../monitored/technology.ts'
import { lastWordsOfLinux } from './last-words.ts'

/** Of the guest's console, the newest is kept. */
const CONSOLE_BYTES = 256 * 1024

/** What any machine with a kernel of its own is, whatever its VMM. */
export const MACHINE = {
  isolation: 'microvm',
  volumes: 'images',
  ids: 'alone',
  logLimitBytes: CONSOLE_BYTES,
  ownClock: true,
  configBy: 'disk',
  flush: 'sync',
  lastWords: lastWordsOfLinux,
} as const satisfies Partial<Technology>
