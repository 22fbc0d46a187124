import type { Technology } from '../monitored/technology.ts'
import { lastWordsOfLinux, orderlyEndOfMachine } from './last-words.ts'

/** Of the guest's console, the newest is kept. */
const CONSOLE_BYTES = 256 * 1024

/** What any machine with a kernel of its own is, whatever its VMM. */
export const MACHINE = {
  isolation: 'microvm',
  mainProcess: 'its VMM',
  volumes: 'images',
  ids: 'alone',
  logLimitBytes: CONSOLE_BYTES,
  isMachine: true,
  configBy: 'disk',
  flush: 'sync',
  lastWords: lastWordsOfLinux,
  orderlyEnd: orderlyEndOfMachine,
} as const satisfies Partial<Technology>
