import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MIB = 1024 * 1024
const BLOCK_BYTES = 4096

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
    await using file = await open(host.#image, 'w')
    await file.truncate(sizeMib * MIB)
    await run('mkfs.ext4', ['-q', host.#image])
    await run('mkdir', [host.folder])
    await run('mount', ['-o', 'loop', host.#image, host.folder])
    return host
  }

  /** What ext4 does when its device fails: nothing can be written any more, also by those who have files open. */
  async failWrites(): Promise<void> {
    const { stdout } = await run('findmnt', ['--noheadings', '--output', 'SOURCE', this.folder])
    await run('mount', ['-o', 'remount,errors=remount-ro', this.folder])
    await writeFile(join('/sys/fs/ext4', basename(stdout.trim()), 'trigger_fs_error'), '1')
  }

  /** After `failWrites`, when nobody uses it any more. */
  async repair(): Promise<void> {
    await run('umount', [this.folder])
    // 1: errors were corrected.
    await run('e2fsck', ['-fy', this.#image]).catch((error: { code?: unknown }) => assert.equal(error.code, 1))
    await run('mount', ['-o', 'loop', this.#image, this.folder])
  }

  /** Takes every byte that is left, as far as root may, but for some blocks; disposing gives it back. */
  async fill(leftBlocks = 0): Promise<AsyncDisposable> {
    await using file = await open(this.#filler, 'a')
    for (const size of [MIB, BLOCK_BYTES]) {
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
    await file.truncate(Math.max(0, (await file.stat()).size - leftBlocks * BLOCK_BYTES))
    return { [Symbol.asyncDispose]: () => rm(this.#filler, { force: true }) }
  }

  get #image(): string {
    return join(this.#place, 'image')
  }

  get #filler(): string {
    return join(this.folder, 'filler')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', [this.folder])
    rmSync(this.#place, { recursive: true })
  }
}
