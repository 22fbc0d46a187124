import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { World } from '../support/world.ts'

const ENGINE = fileURLToPath(new URL('../../packages/engine/src/main.ts', import.meta.url))

/** What can go wrong at a step, as `PYRO_FAULT` takes it. */
export type Fault = 'kill' | 'kill-after' | 'fail' | 'hang' | 'kill-undo' | 'fail-undo'

/** Every step of every operation, as the step runner itself lists them: `workspace.create/clone`. */
const listSteps = (): readonly string[] => {
  const printed = execFileSync(process.execPath, [ENGINE, '--list-steps'], { encoding: 'utf8' })
  return printed.trim().split('\n')
}

/** The steps of one operation, `commit` the last. Printed, so that a run says what it went through. */
export const stepsOf = (operation: string): readonly string[] => {
  const steps = listSteps().filter((step) => step.slice(0, step.lastIndexOf('/')) === operation)
  if (steps.length === 0) throw new Error(`the step runner knows no operation ${operation}`)
  process.stdout.write(`steps of ${operation}: ${steps.map((step) => step.split('/')[1]).join(', ')}\n`)
  return steps
}

/** Where the drivers differ. The other steps are the same code for all: they are gone through on one driver. */
export const isDriversOwn = (step: string): boolean => /sandbox|verify|freeze|commit/.test(step)

/** A new engine in which this step goes wrong; engines that are started after it are sound again. */
export const armFault = async (world: World, step: string, fault: Fault): Promise<{ readonly pid: number }> => {
  await world.restartEngine({ PYRO_FAULT: `${step}:${fault}` })
  world.unset('PYRO_FAULT')
  const pid = await world.enginePid()
  if (pid === null) throw new Error('no engine answers')
  return { pid }
}

/** Runs a case and says in its failure which one it was. */
export const during = async <T>(what: string | (() => string), work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    const said = typeof what === 'string' ? what : what()
    throw new Error(`${said}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}
