import { readFile } from 'node:fs/promises'
import { PyroError } from '@pyro/protocol'
import { sleep } from '../lib/wait.ts'

/** How long create and reset wait for memory of the host. */
const WAIT_MS = 20_000
const POLL_MS = 250
const KIB = 1024
const MIB_BYTES = 1024 * 1024

export interface HostMemory {
  readonly availableMib: number
  readonly totalMib: number
}

export const readHostMemory = async (): Promise<HostMemory> => {
  const text = await readFile('/proc/meminfo', 'utf8')
  const mib = (field: string): number => {
    const kib = Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0)
    return Math.floor((kib * KIB) / MIB_BYTES)
  }
  return { availableMib: mib('MemAvailable'), totalMib: mib('MemTotal') }
}

/**
 * Lets a sandbox start only while the host could give it the memory that it may take. Memory that is promised to sandboxes which are
 * being started counts as taken.
 */
export class Admission {
  readonly #read: () => Promise<HostMemory>
  readonly #waitMs: number
  #promisedMib = 0

  constructor(read: () => Promise<HostMemory> = readHostMemory, waitMs: number = WAIT_MS) {
    this.#read = read
    this.#waitMs = waitMs
  }

  /** What the host never has is not waited for, and nothing is made for it. */
  async refuseTooLarge(memoryMib: number): Promise<void> {
    const memory = await this.#read()
    if (memoryMib > memory.totalMib) throw tooMuch(memoryMib, memory, 'the host has')
  }

  /** Dispose when the sandbox runs, or does not. */
  async admit(memoryMib: number, signal: AbortSignal): Promise<Disposable> {
    const deadline = Date.now() + this.#waitMs
    for (;;) {
      const memory = await this.#read()
      if (memory.availableMib - this.#promisedMib >= memoryMib) return this.#promise(memoryMib)
      if (Date.now() >= deadline) throw tooMuch(memoryMib, memory, 'the host has free')
      await sleep(POLL_MS, signal)
    }
  }

  #promise(memoryMib: number): Disposable {
    this.#promisedMib += memoryMib
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (held) this.#promisedMib -= memoryMib
        held = false
      },
    }
  }
}

const tooMuch = (wantedMib: number, memory: HostMemory, what: string): PyroError => {
  const has = what === 'the host has' ? memory.totalMib : memory.availableMib
  return new PyroError(
    'limit.exceeded',
    `the sandbox takes ${wantedMib} MiB of memory, ${what} ${has} MiB; nothing was changed`,
    {
      hint: 'stop a workspace, or create one with a smaller --memory-mib',
      data: { limit: 'host-memory', wantedMib, availableMib: memory.availableMib, totalMib: memory.totalMib },
    },
  )
}
