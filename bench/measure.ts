import { performance } from 'node:perf_hooks'

export interface Samples {
  readonly medianMs: number
  readonly minMs: number
  readonly maxMs: number
  readonly runs: number
}

export interface Sizes {
  readonly medianBytes: number
  readonly minBytes: number
  readonly maxBytes: number
  readonly runs: number
}

/** Of durations in ms. */
export const summarize = (values: readonly number[]): Samples => {
  const { median, min, max } = middleOf(values)
  return { medianMs: median, minMs: min, maxMs: max, runs: values.length }
}

/** Of sizes in bytes. */
export const summarizeSizes = (values: readonly number[]): Sizes => {
  const { median, min, max } = middleOf(values)
  return { medianBytes: median, minBytes: min, maxBytes: max, runs: values.length }
}

const middleOf = (values: readonly number[]): { median: number; min: number; max: number } => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number): number => sorted[index] ?? Number.NaN
  const middle = Math.floor(sorted.length / 2)
  const median = sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2
  return { median, min: at(0), max: at(sorted.length - 1) }
}

export const timeMs = async (work: () => Promise<unknown>): Promise<number> => {
  const from = performance.now()
  await work()
  return performance.now() - from
}

/** One warm-up that is not counted, then `runs` counted ones. `after` is not timed. */
export const repeat = async (
  runs: number,
  work: (run: number) => Promise<unknown>,
  after: (run: number) => Promise<unknown> = async () => {},
): Promise<Samples> => {
  const values: number[] = []
  for (let run = -1; run < runs; run += 1) {
    const took = await timeMs(() => work(run))
    await after(run)
    if (run >= 0) values.push(took)
  }
  return summarize(values)
}

/**
 * Times two things in turn, A B A B …, so that a machine whose speed drifts is equally fast for both.
 */
export const inTurn = async (
  runs: number,
  subject: (run: number) => Promise<unknown>,
  floor: (run: number) => Promise<unknown>,
  after: (run: number) => Promise<unknown> = async () => {},
  afterFloor: () => Promise<unknown> = async () => {},
): Promise<{ subject: Samples; floor: Samples }> => {
  const subjects: number[] = []
  const floors: number[] = []
  for (let run = -1; run < runs; run += 1) {
    const a = await timeMs(() => subject(run))
    await after(run)
    const b = await timeMs(() => floor(run))
    await afterFloor()
    if (run < 0) continue
    subjects.push(a)
    floors.push(b)
  }
  return { subject: summarize(subjects), floor: summarize(floors) }
}

/** As `inTurn`, of two that say themselves how many milliseconds they took. */
export const inTurnMs = async (
  runs: number,
  subjectMs: (run: number) => Promise<number>,
  floorMs: () => Promise<number>,
): Promise<{ subject: Samples; floor: Samples }> => {
  const subjects: number[] = []
  const floors: number[] = []
  for (let run = -1; run < runs; run += 1) {
    const [a, b] = [await subjectMs(run), await floorMs()]
    if (run < 0) continue
    subjects.push(a)
    floors.push(b)
  }
  return { subject: summarize(subjects), floor: summarize(floors) }
}
