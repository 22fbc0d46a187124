import { PyroError } from '@pyro/protocol/client'
import { BLOCK_BYTES, checksumOf, FIELD, paddingOf, TYPE } from './header.ts'

/** Bytes of pax records and long names in front of one entry. */
const EXTENSION_LIMIT_BYTES = 1024 * 1024

export interface UnpackedEntry {
  /** Byte string, as the archive has it, without a slash at its end. */
  readonly path: string
  readonly type: string
  /** Permission bits, set-id bits included as the archive has them. */
  readonly mode: number
  readonly mtimeSeconds: number
  readonly sizeBytes: number
  /** Byte string. */
  readonly linkName: string
}

/** Receives the parts of an archive in order; `content` only between `entry` of a file and `end`. */
export interface UnpackHandler {
  readonly entry: (entry: UnpackedEntry) => void
  readonly content: (bytes: Uint8Array) => void
  readonly end: () => void
}

interface Extension {
  path?: string
  linkName?: string
  sizeBytes?: number
  mtimeSeconds?: number
}

type State =
  | { readonly at: 'header' }
  | { readonly at: 'content'; left: number; padding: number }
  | { readonly at: 'extension'; readonly type: string; readonly chunks: Buffer[]; left: number; padding: number }
  | { readonly at: 'end' }

/** Reads a tar (ustar, pax, GNU long names) as its bytes arrive. */
export class TarReader {
  readonly #handler: UnpackHandler
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  #blockFill = 0
  #state: State = { at: 'header' }
  #extension: Extension = {}

  constructor(handler: UnpackHandler) {
    this.#handler = handler
  }

  push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength) {
      const state = this.#state
      if (state.at === 'end') return
      at += state.at === 'header' ? this.#fillBlock(chunk, at) : this.#passOn(state, chunk, at)
    }
  }

  /** @throws PyroError `archive.truncated` when the archive is not over */
  finish(): void {
    if (this.#state.at !== 'end') throw damaged('it ends early')
  }

  #fillBlock(chunk: Uint8Array, at: number): number {
    const take = Math.min(BLOCK_BYTES - this.#blockFill, chunk.byteLength - at)
    this.#block.set(chunk.subarray(at, at + take), this.#blockFill)
    this.#blockFill += take
    if (this.#blockFill === BLOCK_BYTES) {
      this.#blockFill = 0
      this.#header()
    }
    return take
  }

  #passOn(state: State & { at: 'content' | 'extension' }, chunk: Uint8Array, at: number): number {
    if (state.left > 0) {
      const part = chunk.subarray(at, at + state.left)
      state.left -= part.byteLength
      if (state.at === 'content') this.#handler.content(part)
      else state.chunks.push(Buffer.from(part))
      this.#leaveIfDone(state)
      return part.byteLength
    }
    const skipped = Math.min(state.padding, chunk.byteLength - at)
    state.padding -= skipped
    this.#leaveIfDone(state)
    return skipped
  }

  #leaveIfDone(state: State & { at: 'content' | 'extension' }): void {
    if (state.left > 0 || state.padding > 0) return
    if (state.at === 'content') this.#handler.end()
    else this.#extend(state.type, Buffer.concat(state.chunks))
    this.#state = { at: 'header' }
  }

  #header(): void {
    const block = this.#block
    if (block.every((byte) => byte === 0)) {
      this.#state = { at: 'end' }
      return
    }
    if (checksumOf(block) !== number(block, FIELD.checksum)) throw damaged('a header does not match its checksum')
    const type = text(block, FIELD.type) || TYPE.file
    const sizeBytes = number(block, FIELD.size)
    if (isExtension(type)) return this.#beginExtension(type, sizeBytes)
    this.#beginEntry(this.#entry(type, sizeBytes))
  }

  #entry(type: string, sizeBytes: number): UnpackedEntry {
    const block = this.#block
    const prefix = text(block, FIELD.magic) === 'ustar' ? text(block, FIELD.prefix) : ''
    const name = text(block, FIELD.name)
    const extension = this.#extension
    this.#extension = {}
    const path = extension.path ?? (prefix === '' ? name : `${prefix}/${name}`)
    return {
      path: path.replace(/\/+$/, ''),
      type: type === TYPE.contiguous ? TYPE.file : type,
      mode: number(block, FIELD.mode) & 0o7777,
      mtimeSeconds: extension.mtimeSeconds ?? number(block, FIELD.mtime),
      sizeBytes: type === TYPE.file ? (extension.sizeBytes ?? sizeBytes) : 0,
      linkName: extension.linkName ?? text(block, FIELD.linkName),
    }
  }

  #beginEntry(entry: UnpackedEntry): void {
    this.#handler.entry(entry)
    if (entry.type !== TYPE.file) return
    if (entry.sizeBytes === 0) return this.#handler.end()
    this.#state = { at: 'content', left: entry.sizeBytes, padding: paddingOf(entry.sizeBytes) }
  }

  #beginExtension(type: string, sizeBytes: number): void {
    if (sizeBytes > EXTENSION_LIMIT_BYTES) throw damaged('a name in it is too long')
    if (sizeBytes > 0)
      this.#state = { at: 'extension', type, chunks: [], left: sizeBytes, padding: paddingOf(sizeBytes) }
  }

  #extend(type: string, payload: Buffer): void {
    if (type === TYPE.gnuLongName) this.#extension.path = untilNul(payload)
    else if (type === TYPE.gnuLongLink) this.#extension.linkName = untilNul(payload)
    else if (type === TYPE.paxNext) Object.assign(this.#extension, paxExtension(payload))
  }
}

const isExtension = (type: string): boolean =>
  type === TYPE.paxNext || type === TYPE.paxGlobal || type === TYPE.gnuLongName || type === TYPE.gnuLongLink

const paxExtension = (payload: Buffer): Extension => {
  const extension: Extension = {}
  for (let at = 0; at < payload.length;) {
    const space = payload.indexOf(0x20, at)
    const length = Number(payload.toString('latin1', at, space))
    if (space < 0 || !Number.isInteger(length) || length < 5 || at + length > payload.length)
      throw damaged('a pax record is cut')
    const record = payload.toString('latin1', space + 1, at + length - 1)
    const equals = record.indexOf('=')
    const value = record.slice(equals + 1)
    switch (record.slice(0, equals)) {
      case 'path':
        extension.path = value
        break
      case 'linkpath':
        extension.linkName = value
        break
      case 'size':
        extension.sizeBytes = wholeNumber(value)
        break
      case 'mtime':
        extension.mtimeSeconds = Number(value)
        break
    }
    at += length
  }
  return extension
}

const wholeNumber = (value: string): number => {
  const parsed = Number(value)
  if (!Number.isSafeInteger(parsed) || parsed < 0) throw damaged('a size in it is no number')
  return parsed
}

/** Octal digits, or with the high bit set a big-endian number (GNU). */
const number = (block: Buffer, [at, length]: readonly [number, number]): number => {
  const first = block[at] ?? 0
  if ((first & 0x80) === 0) {
    const digits = text(block, [at, length]).trim()
    if (!/^[0-7]*$/.test(digits)) throw damaged('a header holds no number where one belongs')
    return digits === '' ? 0 : Number.parseInt(digits, 8)
  }
  // A negative number: only times before 1970 have one.
  if ((first & 0x40) !== 0) return 0
  let value = first & 0x7f
  for (let index = at + 1; index < at + length; index++) value = value * 256 + (block[index] ?? 0)
  if (!Number.isSafeInteger(value)) throw damaged('a number in it is too large')
  return value
}

const text = (block: Buffer, [at, length]: readonly [number, number]): string => {
  const end = block.indexOf(0, at)
  return block.toString('latin1', at, end < 0 || end > at + length ? at + length : end)
}

const untilNul = (payload: Buffer): string => {
  const end = payload.indexOf(0)
  return payload.toString('latin1', 0, end < 0 ? payload.length : end)
}

const damaged = (what: string): PyroError =>
  new PyroError('archive.truncated', `the archive is damaged: ${what}; nothing was written`)
