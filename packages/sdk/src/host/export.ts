import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, lstatSync, openSync, renameSync, unlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { PyroError } from '@pyro/protocol/client'
import type { InputOf, ResultOf } from '@pyro/protocol'
import type { ExportOptions } from '../handles/transfer.ts'
import type { Client } from '../transport/client.ts'
import { Staging, UNFINISHED } from './staging.ts'
import { TarReader } from './tar/unpack.ts'
import { writeAll } from './write-all.ts'
import { checkParent, guarded, pathExists, refuseSpecial } from './write-error.ts'

/** Takes the parts of one attempt; an attempt that breaks off is discarded and begun again. */
interface Receiver {
  readonly push: (bytes: Uint8Array) => void | Promise<void>
  /** Puts what was received where it belongs. */
  readonly place: () => void
  /** Removes whatever is still in the way. Idempotent. */
  readonly discard: () => void
}

export type ExportResult = ResultOf<'workspace.export'> & {
  /** Where it was written; null when it was handed to a function. */
  readonly output: string | null
}

/** Streams a file or folder out of a workspace and writes it to this host. */
export const receiveExport = async (
  client: Client,
  input: InputOf<'workspace.export'>,
  options: ExportOptions,
): Promise<ExportResult> => {
  const open = receiverOf(options)
  let receiver = open()
  try {
    const result = await client.stream('workspace.export', input, {
      signal: options.signal,
      sink: { data: (bytes) => receiver.push(bytes) },
      restarted: () => {
        receiver.discard()
        receiver = open()
      },
    })
    receiver.place()
    return { ...result, output: typeof options.output === 'string' ? resolve(options.output) : null }
  } finally {
    receiver.discard()
  }
}

const receiverOf = ({ output, format = 'files', force = false }: ExportOptions): (() => Receiver) => {
  if (typeof output !== 'string') return handOver(output)
  const target = resolve(output)
  checkTarget(target, force)
  return format === 'tar' ? () => tarFile(target, force) : () => files(target, force)
}

/** Before anything is asked of the engine. */
const checkTarget = (target: string, force: boolean): void => {
  checkParent(target)
  guarded(target, () => refuseSpecial(target))
  const there = guarded(target, () => lstatSync(target, { throwIfNoEntry: false }))
  if (!force && there !== undefined) throw pathExists(target)
}

const files = (target: string, force: boolean): Receiver => {
  const staging = Staging.open(target)
  const reader = new TarReader(staging)
  return {
    push: (bytes) => reader.push(bytes),
    place: () => {
      reader.finish()
      staging.place(target, force)
    },
    discard: () => staging.discard(),
  }
}

const tarFile = (target: string, force: boolean): Receiver => {
  const temporary = join(dirname(target), `${UNFINISHED}${randomUUID()}`)
  const file = guarded(target, () => openSync(temporary, 'wx', 0o600))
  let closed = false
  const close = (): void => {
    if (!closed) closeSync(file)
    closed = true
  }
  return {
    push: (bytes) => guarded(target, () => writeAll(file, bytes)),
    place: () =>
      guarded(target, () => {
        fsyncSync(file)
        close()
        // A link fails where the name is taken, a rename would replace it.
        if (force) {
          refuseSpecial(target)
          renameSync(temporary, target)
        } else linkSync(temporary, target)
      }),
    discard: () => {
      close()
      unlinkIfThere(temporary)
    },
  }
}

/** A function has seen what it has seen: an attempt that broke off cannot be taken back. */
const handOver = (output: (tar: Uint8Array) => void | Promise<void>): (() => Receiver) => {
  let seen = false
  return () => {
    if (seen) {
      throw new PyroError(
        'engine.unreachable',
        'the engine ended in the middle of the export; what was written is not whole',
        {
          hint: 'run the same command again',
        },
      )
    }
    return {
      push: (bytes) => {
        seen = true
        return output(bytes)
      },
      place: () => undefined,
      discard: () => undefined,
    }
  }
}

const unlinkIfThere = (path: string): void => {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
