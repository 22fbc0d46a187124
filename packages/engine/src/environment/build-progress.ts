import type { Progress } from '@pyro/protocol'

/** A line longer than this is cut: it is shown, never needed whole. */
const LINE_LIMIT_CHARACTERS = 4096
const REPORT_INTERVAL_MS = 200

const UNITS: Readonly<Record<string, number>> = { B: 1, kB: 1000, MB: 1000_000, GB: 1000_000_000 }

/** Reads what mmdebstrap and apt print and tells how far a build is. */
export class BuildProgress {
  readonly #name: string
  readonly #report: (progress: Progress) => void
  #rest = ''
  #step: string
  #fetchedBytes = 0
  #neededBytes: number | null = null
  /** Some program of the build met a full disk. */
  isDiskFull = false
  #packages = 0
  #configured = 0
  #error: string | null = null
  /** Which download failed; without its reason. */
  #failedDownload: string | null = null
  #reportedAtMs = 0

  constructor(name: string, report: (progress: Progress) => void) {
    this.#name = name
    this.#report = report
    this.#step = `building ${name}`
  }

  lastError(): string | null {
    return this.#error ?? this.#failedDownload
  }

  push(text: string): void {
    const lines = (this.#rest + text).split(/[\r\n]+/)
    this.#rest = (lines.pop() ?? '').slice(-LINE_LIMIT_CHARACTERS)
    for (const line of lines) this.#line(line.slice(0, LINE_LIMIT_CHARACTERS))
  }

  #line(line: string): void {
    this.#error ??= /^(?:E: |error: )(.+)/.exec(line)?.[1] ?? null
    if (/No space left on device|You don't have enough free space/.test(line)) this.isDiskFull = true
    this.#failedDownload ??= /^Err:\d+ (.+)/.exec(line)?.[1] ?? null
    if (line.startsWith('I: running apt-get update')) this.#enter(`reading package lists for ${this.#name}`)
    else if (line.startsWith('I: downloading packages')) this.#enter(`fetching packages for ${this.#name}`)
    else if (/^I: (extracting|installing)/.test(line)) this.#enter(`installing packages of ${this.#name}`)
    else if (/^I: (running --customize-hook|cleaning|creating)/.test(line)) this.#enter(`packing ${this.#name}`)
    const needed = /^Need to get ([\d.,]+) (B|kB|MB|GB)\b/.exec(line)
    if (needed !== null) {
      this.#neededBytes = bytesOf(needed[1], needed[2])
      this.#fetchedBytes = 0
    }
    const fetched = /^Get:\d+ .* \[([\d.,]+) (B|kB|MB|GB)\]$/.exec(line)
    if (fetched !== null) this.#fetchedBytes += bytesOf(fetched[1], fetched[2])
    this.#packages += Number(/, (\d+) newly installed/.exec(line)?.[1] ?? 0)
    const setUp = /^Setting up (\S+)/.exec(line)
    if (setUp !== null) this.#configured++
    this.#tell(setUp?.[1] ?? /^Get:\d+ \S+ \S+ (.*)$/.exec(line)?.[1] ?? null)
  }

  #enter(step: string): void {
    this.#step = step
    this.#reportedAtMs = 0
  }

  #tell(detail: string | null): void {
    const nowMs = Date.now()
    if (nowMs - this.#reportedAtMs < REPORT_INTERVAL_MS) return
    this.#reportedAtMs = nowMs
    const isInstalling = this.#step.startsWith('installing')
    const isFetching = this.#step.startsWith('fetching')
    this.#report({
      step: this.#step,
      done: isInstalling
        ? // Packages of the build itself are configured too, and were not counted.
          Math.min(100, Math.floor((100 * this.#configured) / Math.max(this.#packages, 1)))
        : isFetching
          ? this.#fetchedBytes
          : null,
      total: isInstalling ? 100 : isFetching ? this.#neededBytes : null,
      unit: isInstalling ? 'percent' : isFetching ? 'bytes' : null,
      detail,
    })
  }
}

const bytesOf = (amount = '0', unit = 'B'): number =>
  Math.round(Number(amount.replaceAll(',', '')) * (UNITS[unit] ?? 1))
