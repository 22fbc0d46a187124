import type { Pyro } from '@pyro/sdk'
import type { Samples, Sizes } from './measure.ts'

/** What a row needs to measure. */
export interface Bench {
  readonly pyro: Pyro
  /** Drivers that work here, of those asked for. */
  readonly drivers: readonly string[]
  /** Those of them whose sandboxes are containers. */
  readonly containers: readonly string[]
  /** Those of them whose sandboxes are machines of qemu. */
  readonly machines: readonly string[]
  /** Environment with python3 and coreutils. */
  readonly environment: string
  /** An unpacked copy of that environment's tree, owned by the mapped root, for floors; empty without containers. */
  readonly floorTree: string
  /** Scratch folder on the host's disk. */
  readonly scratch: string
  /** True: small sizes and few runs, to see that the bench works. */
  readonly quick: boolean
}

export interface Result {
  readonly what: string
  readonly driver: string
  readonly subject: Samples | Sizes | null
  readonly floorName: string
  readonly floor: Samples | Sizes | null
  /** What the project wants of it. */
  readonly reach: string
  readonly holds: boolean | null
  /** Anything else that was measured, e.g. bytes or a rate. */
  readonly note: string
}

export interface Row {
  readonly name: string
  run(bench: Bench): Promise<readonly Result[]>
}
