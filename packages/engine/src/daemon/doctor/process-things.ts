import { sleep } from '../../lib/wait.ts'
import { findStrayHelpers } from '../../process/helper-processes.ts'
import { isAlive, processId, signalProcess, type ProcessIdentity } from '../../process/identity.ts'
import type { Engine } from '../engine.ts'
import { NOBODY, type Thing } from './thing.ts'

const KILL_STEP_MS = 10
const KILL_DEADLINE_MS = 5_000
/** Of the arguments, which may hold a whole request. */
const DETAIL_CHARACTERS = 120

/** Helpers of engines that are gone. */
export const processThings = async ({ services }: Engine): Promise<Thing[]> =>
  (await findStrayHelpers(services.config.home)).map(({ pid, startTime, argv }) => ({
    leak: {
      kind: 'process',
      id: processId({ pid, startTime }),
      workspaceId: null,
      detail: argv.join(' ').slice(0, DETAIL_CHARACTERS),
    },
    claim: NOBODY,
    release: () => end({ pid, startTime }),
  }))

const end = async (identity: ProcessIdentity): Promise<void> => {
  signalProcess(identity, 'SIGKILL')
  const until = performance.now() + KILL_DEADLINE_MS
  while (isAlive(identity) && performance.now() < until) await sleep(KILL_STEP_MS)
}
