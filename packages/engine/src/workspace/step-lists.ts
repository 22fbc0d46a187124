import { CREATE_STEPS } from './operations/create.ts'
import { DELETE_STEPS } from './operations/delete.ts'
import { RESET_STEPS } from './operations/reset.ts'
import { SNAPSHOT_STEPS } from './operations/snapshot.ts'
import { START_STEPS } from './operations/start.ts'
import { STOP_STEPS } from './operations/stop.ts'

interface NamedSteps {
  readonly operation: string
  readonly steps: readonly { readonly name: string }[]
}

/** Every operation that is made of steps; `pyro-engine --list-steps` prints them. */
export const STEP_LISTS: readonly NamedSteps[] = [
  CREATE_STEPS,
  START_STEPS,
  STOP_STEPS,
  SNAPSHOT_STEPS,
  RESET_STEPS,
  DELETE_STEPS,
]
