import { sleep } from '../../lib/wait.ts'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { SET } from './command-line.ts'
import type { Qmp } from './qmp.ts'

const STEP_MS = 1
const none = z.object({})
const migration = z.object({ status: z.string().optional(), 'error-desc': z.string().optional() })
const run = z.object({ status: z.string() })
const UNLIMITED_BYTES_PER_S = 2 ** 40

/** Memory in a file that is shared stays where it is: the state holds the devices alone. */
const IGNORE_SHARED = { capabilities: [{ capability: 'x-ignore-shared', state: true }] }

/** Stops the machine and writes its state to the descriptor that it was given. */
export const saveState = async (qmp: Qmp, signal: AbortSignal): Promise<void> => {
  await qmp.execute('stop', {}, none)
  await qmp.execute('migrate-set-capabilities', IGNORE_SHARED, none)
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': UNLIMITED_BYTES_PER_S }, none)
  await qmp.execute('migrate', { uri: `file:/dev/fdset/${SET.state}` }, none)
  await untilMigrated(qmp, signal)
}

/** Reads the state that the machine was given, and lets it run. */
export const loadState = async (qmp: Qmp, signal: AbortSignal): Promise<void> => {
  await qmp.execute('migrate-set-capabilities', IGNORE_SHARED, none)
  await qmp.execute('migrate-incoming', { uri: `file:/dev/fdset/${SET.state}` }, none)
  await untilMigrated(qmp, signal)
  while ((await qmp.execute('query-status', {}, run)).status === 'inmigrate') await sleep(STEP_MS, signal)
  await qmp.execute('cont', {}, none)
}

const untilMigrated = async (qmp: Qmp, signal: AbortSignal): Promise<void> => {
  for (;;) {
    const now = await qmp.execute('query-migrate', {}, migration)
    if (now.status === 'completed') return
    if (now.status === 'failed' || now.status === 'cancelled')
      throw new PyroError('internal', `qemu did not move the machine's state: ${now['error-desc'] ?? now.status}`)
    await sleep(STEP_MS, signal)
  }
}
