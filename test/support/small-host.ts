import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MIB = 1024 * 1024

/** A filesystem of its own for a home, so that a test can fill "the host". */
export class SmallHost implements AsyncDisposable {
  /** Folder that homes can be made in. */
  readonly folder: string
  readonly #place: string

  private constructor(place: string) {
    this.#place = place
    this.folder = join(place, 'host')
  }

  static async make(sizeMib: number): Promise<SmallHost> {
    const place = mkdtempSync(join(tmpdir(), 'pyro-small-host-'))
    const host = new SmallHost(place)
    const image = join(place, 'image')
    await using file = await open(image, 'w')
    await file.truncate(sizeMib * MIB)
    await run('mkfs.ext4', ['-q', image])
    await run('mkdir', [host.folder])
    await run('mount', ['-o', 'loop', image, host.folder])
    return host
  }

  /** Takes every byte that is left, as far as root may; disposing gives it back. */
  async fill(): Promise<AsyncDisposable> {
    await using file = await open(this.#filler, 'a')
    for (const size of [MIB, 4096]) {
      const block = Buffer.alloc(size, 'x')
      for (;;) {
        try {
          await file.appendFile(block)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
          break
        }
      }
    }
    return { [Symbol.asyncDispose]: () => rm(this.#filler, { force: true }) }
  }

  get #filler(): string {
    return join(this.folder, 'filler')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', [this.folder])
    rmSync(this.#place, { recursive: true })
  }
}
