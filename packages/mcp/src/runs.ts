import { randomInt } from 'node:crypto'
import { PyroError, type ResultOf } from '@pyro/protocol'
import type { CommandOutput } from './text/command-output.ts'

/** Runs remembered at one time; ended ones go first. */
const RUNS_LIMIT = 64
const ID_LETTERS = 'abcdefghijklmnopqrstuvwxyz234567'
const ID_LENGTH = 12

export interface Run {
  readonly id: string
  readonly startedAtMs: number
  readonly output: CommandOutput
  readonly promise: Promise<ResultOf<'run'>>
  readonly controller: AbortController
  /** What is being done before the command runs. */
  step: string | null
  ended: boolean
}

/** One-shot runs that outlive their call: the profile `run` has no other tool to find them with. */
export class Runs {
  readonly #byId = new Map<string, Run>()

  add(
    output: CommandOutput,
    start: (run: { readonly signal: AbortSignal; step: (step: string | null) => void }) => Promise<ResultOf<'run'>>,
  ): Run {
    const controller = new AbortController()
    const steps: { run: Run | null } = { run: null }
    const step = (now: string | null): void => {
      if (steps.run !== null) steps.run.step = now
    }
    const promise = start({ signal: controller.signal, step })
    const run: Run = {
      id: newRunId(),
      startedAtMs: Date.now(),
      output,
      promise,
      controller,
      step: 'starting',
      ended: false,
    }
    steps.run = run
    const end = (): void => void (run.ended = true)
    promise.then(end, end)
    this.#byId.set(run.id, run)
    this.#forgetOldest()
    return run
  }

  get(id: string): Run {
    const run = this.#byId.get(id)
    if (run === undefined) {
      throw new PyroError('command.not-found', `no run ${id} is known to this server`, {
        hint: 'run the command again',
      })
    }
    return run
  }

  forget(run: Run): void {
    this.#byId.delete(run.id)
  }

  abort(): void {
    for (const { controller } of this.#byId.values()) controller.abort()
    this.#byId.clear()
  }

  #forgetOldest(): void {
    for (const [id, { ended }] of this.#byId) {
      if (this.#byId.size <= RUNS_LIMIT) return
      if (ended) this.#byId.delete(id)
    }
    if (this.#byId.size > RUNS_LIMIT) {
      throw new PyroError('limit.exceeded', `${RUNS_LIMIT} runs are under way already`, {
        hint: 'wait for one with its runId',
      })
    }
  }
}

const newRunId = (): string => `run-${Array.from({ length: ID_LENGTH }, () => ID_LETTERS[randomInt(32)]).join('')}`
