import { sleep } from '../../lib/wait.ts'
import { findStrayHelpers } from '../../process/helper-processes.ts'
import { isAlive, processId, signalProcess, type ProcessIdentity } from '../../process/identity.ts'
import { readArgv } from '../../process/process-table.ts'
import type { Engine } from '../engine.ts'
import { NOBODY, type Thing } from './thing.ts'

const KILL_STEP_MS = 10
const KILL_DEADLINE_MS = 5_000
/** A volumes helper without its engine ends after at most 5 s. */
const HELPER_GRACE_MS = 6_000
const LOOK_AGAIN_MS = 200
/** Of the arguments, which may hold a whole request. */
const DETAIL_CHARACTERS = 120

/** Helpers of engines that are gone. Those of the last one may still finish what they were asked. */
export const processThings = async ({ services }: Engine): Promise<Thing[]> => {
  let stray = await findStrayHelpers(services.config.home)
  for (let leftMs = graceMs(); stray.length > 0 && leftMs > 0; leftMs = graceMs()) {
    await sleep(Math.min(leftMs, LOOK_AGAIN_MS))
    stray = await findStrayHelpers(services.config.home)
  }
  return Promise.all(
    stray.map(async ({ pid, startTime }) => ({
      leak: {
        kind: 'process',
        id: processId({ pid, startTime }),
        workspaceId: null,
        detail: (await readArgv(pid)).join(' ').slice(0, DETAIL_CHARACTERS),
      },
      claim: NOBODY,
      release: () => end({ pid, startTime }),
    })),
  )
}

/** The last engine was gone before this one began. */
const graceMs = (): number => HELPER_GRACE_MS - process.uptime() * 1000

const end = async (identity: ProcessIdentity): Promise<void> => {
  signalProcess(identity, 'SIGKILL')
  const until = performance.now() + KILL_DEADLINE_MS
  while (isAlive(identity) && performance.now() < until) await sleep(KILL_STEP_MS)
}
