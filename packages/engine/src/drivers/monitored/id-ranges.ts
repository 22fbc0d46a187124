import { createHash } from 'node:crypto'
import { dirname } from 'node:path'
import { ID_COUNT } from '../../disk/disk-store.ts'
import { runProgram } from '../../process/program.ts'

/** Tools that take ids for signed numbers see no negative ones. */
const IDS_END = 0x8000_0000
const CHECK_TIMEOUT_MS = 10_000

/** The ids that a sandbox has on the host. */
export interface SandboxIds {
  /** What root inside is outside; `ID_COUNT` ids from there. */
  readonly base: number
  /** Null: the ids of the disk itself, which all sandboxes share. Else its disk is shown to the sandbox with ids mapped. */
  readonly diskBase: number | null
}

export interface IdRangesOptions {
  /** First id of all disks. */
  readonly idBase: number
  readonly agentBinary: () => Promise<string>
}

/**
 * Gives each sandbox a range of ids of its own, where the filesystem of its disk can be mounted with mapped ids: the kernel counts
 * much per user, and nobody can use up what is another one's. The range follows from the name, so nothing has to remember it;
 * two sandboxes in ten thousand share one, which costs them this separation and nothing else.
 */
export class IdRanges {
  readonly #options: IdRangesOptions
  /** By folder of volumes. */
  readonly #mappable = new Map<string, Promise<boolean>>()

  constructor(options: IdRangesOptions) {
    this.#options = options
  }

  async of(sandboxId: string, volumePath: string): Promise<SandboxIds> {
    const { idBase } = this.#options
    const alone = this.alone(sandboxId)
    if (alone.base === idBase || !(await this.#canMap(dirname(volumePath)))) return { base: idBase, diskBase: null }
    return { base: alone.base, diskBase: idBase }
  }

  /** A range for what has no disk of the host's ids. */
  alone(sandboxId: string): SandboxIds {
    const { idBase } = this.#options
    const ranges = Math.floor((IDS_END - idBase) / ID_COUNT) - 1
    if (ranges < 1) return { base: idBase, diskBase: null }
    const range = createHash('sha256').update(sandboxId).digest().readUInt32BE(0) % ranges
    return { base: idBase + (range + 1) * ID_COUNT, diskBase: null }
  }

  #canMap(folder: string): Promise<boolean> {
    const known = this.#mappable.get(folder)
    if (known !== undefined) return known
    const asked = this.#ask(folder)
    this.#mappable.set(folder, asked)
    asked.catch(() => this.#mappable.delete(folder))
    return asked
  }

  async #ask(folder: string): Promise<boolean> {
    const check = ['launch', 'check', folder]
    return (await runProgram(await this.#options.agentBinary(), check, { timeoutMs: CHECK_TIMEOUT_MS })).exitCode === 0
  }
}
