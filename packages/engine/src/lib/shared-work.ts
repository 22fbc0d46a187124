import type { Progress } from '@pyro/protocol'
import { abortable } from './wait.ts'

interface Caller {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: Progress) => void
}

interface Work<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  readonly callers: Set<Caller>
  /** What was said last, for those who come later. */
  progress: Progress | null
}

/**
 * Work that those who ask for the same thing share. Each hears how far it is from where it comes in. It is aborted when the last of
 * them has gone.
 */
export class SharedWork<T> {
  readonly #works = new Map<string, Work<T>>()

  get isIdle(): boolean {
    return this.#works.size === 0
  }

  async join(
    key: string,
    caller: Caller,
    start: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<T>,
  ): Promise<T> {
    caller.signal?.throwIfAborted()
    // What was aborted still has to clean up: a new caller waits for that and starts again.
    for (let ending = this.#works.get(key); ending?.abort.signal.aborted === true; ending = this.#works.get(key))
      await abortable(Promise.allSettled([ending.result]), caller.signal)
    const work = this.#works.get(key) ?? this.#start(key, start)
    work.callers.add(caller)
    if (work.progress !== null) caller.onProgress?.(work.progress)
    try {
      return await abortable(work.result, caller.signal)
    } catch (error) {
      work.callers.delete(caller)
      if (caller.signal?.aborted === true && work.callers.size === 0) {
        work.abort.abort(error)
        await Promise.allSettled([work.result])
      }
      throw error
    }
  }

  #start(key: string, start: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<T>): Work<T> {
    const abort = new AbortController()
    const callers = new Set<Caller>()
    const tell = (progress: Progress): void => {
      work.progress = progress
      for (const { onProgress } of callers) onProgress?.(progress)
    }
    // Once whoever asked is among the callers: who begins by saying what it does is heard.
    const result = Promise.resolve()
      .then(() => start(abort.signal, tell))
      .finally(() => this.#works.delete(key))
    result.catch((_error: unknown) => undefined)
    const work: Work<T> = { result, abort, callers, progress: null }
    this.#works.set(key, work)
    return work
  }
}
