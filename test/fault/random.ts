/** Numbers that look random and are the same for the same seed (mulberry32). */
export class Random {
  #state: number

  private constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** `PYRO_SEED` repeats a run; else each run has its own, which is printed. */
  static seeded(what: string): Random {
    const seed = Number(process.env['PYRO_SEED'] ?? Date.now() % 1_000_000)
    process.stdout.write(`${what}: PYRO_SEED=${seed}\n`)
    return new Random(seed)
  }

  /** Numbers of their own for each part of something concurrent, whatever the others draw meanwhile. */
  fork(part: number): Random {
    return new Random(this.#state ^ Math.imul(part + 1, 0x9e3779b1))
  }

  /** 0 ≤ x < 1 */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number, 0 ≤ n < limit. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.below(choices.length)] ?? choices[0]
  }
}
