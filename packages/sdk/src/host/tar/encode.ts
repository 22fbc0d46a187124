import { BLOCK_BYTES, checksumOf, FIELD, OCTAL_SIZE_LIMIT, paddingOf, TYPE } from './header.ts'

export interface TarEntry {
  /** Byte string, relative, without a slash at either end. */
  readonly path: string
  readonly type: (typeof TYPE)['file' | 'directory' | 'symlink' | 'hardLink']
  /** Permission bits. */
  readonly mode: number
  /** Whole seconds; before 1970 negative. */
  readonly mtimeSeconds: number
  /** Zero for everything but files. */
  readonly sizeBytes: number
  /** Byte string; target of a symlink, or path of the entry a hard link names. */
  readonly linkName: string
}

/**
 * Most bytes one header can take: pax header and payload for path, link, size and time, and the block itself. A writer that has this much
 * room left in its buffer can encode any entry.
 */
export const HEADER_LIMIT_BYTES = 16 * 1024

/** Writes the header of an entry at `at`, with a pax header before it where ustar cannot carry it; returns the offset behind. */
export const encodeHeader = (entry: TarEntry, into: Buffer, at: number): number => {
  const name = entry.type === TYPE.directory ? `${entry.path}/` : entry.path
  const split = splitName(name)
  const records = paxRecords(entry, name, split !== null)
  const from = records === '' ? at : encodePax(records, entry, into, at)
  writeBlock(into, from, { ...(split ?? { name: name.slice(0, FIELD.name[1]), prefix: '' }), entry })
  return from + BLOCK_BYTES
}

const paxRecords = (entry: TarEntry, name: string, fits: boolean): string => {
  let records = ''
  if (!fits) records += paxRecord('path', name)
  if (entry.linkName.length > FIELD.linkName[1]) records += paxRecord('linkpath', entry.linkName)
  if (entry.sizeBytes > OCTAL_SIZE_LIMIT) records += paxRecord('size', String(entry.sizeBytes))
  if (octalTime(entry.mtimeSeconds) !== entry.mtimeSeconds) records += paxRecord('mtime', String(entry.mtimeSeconds))
  return records
}

/** A record starts with its own length, which counts its own digits. */
const paxRecord = (key: string, value: string): string => {
  const rest = ` ${key}=${value}\n`
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return `${length}${rest}`
}

const encodePax = (records: string, entry: TarEntry, into: Buffer, at: number): number => {
  const pax = { ...entry, type: TYPE.paxNext, mode: 0o644, sizeBytes: records.length, linkName: '' }
  writeBlock(into, at, { name: 'PaxHeader', prefix: '', entry: pax })
  const payload = at + BLOCK_BYTES
  into.write(records, payload, records.length, 'latin1')
  const end = payload + records.length + paddingOf(records.length)
  into.fill(0, payload + records.length, end)
  return end
}

/** A name of up to 100 bytes, or of up to 255 that can be cut at a slash; null when it needs a pax record. */
const splitName = (name: string): { name: string; prefix: string } | null => {
  if (name.length <= FIELD.name[1]) return { name, prefix: '' }
  if (name.length > FIELD.name[1] + 1 + FIELD.prefix[1]) return null
  // The cut leaves at least one character behind it, also when the name ends in a slash.
  for (let cut = name.lastIndexOf('/', name.length - 2); cut > 0; cut = name.lastIndexOf('/', cut - 1)) {
    if (name.length - cut - 1 > FIELD.name[1]) return null
    if (cut <= FIELD.prefix[1]) return { name: name.slice(cut + 1), prefix: name.slice(0, cut) }
  }
  return null
}

interface Block {
  readonly name: string
  readonly prefix: string
  readonly entry: Omit<TarEntry, 'type'> & { readonly type: string }
}

const writeBlock = (into: Buffer, at: number, { name, prefix, entry }: Block): void => {
  into.fill(0, at, at + BLOCK_BYTES)
  into.write(name, at, name.length, 'latin1')
  octal(into, at, FIELD.mode, entry.mode & 0o1777)
  octal(into, at, FIELD.uid, 0)
  octal(into, at, FIELD.gid, 0)
  octal(into, at, FIELD.size, entry.sizeBytes > OCTAL_SIZE_LIMIT ? 0 : entry.sizeBytes)
  octal(into, at, FIELD.mtime, octalTime(entry.mtimeSeconds))
  into.write(entry.type, at + FIELD.type[0], 1, 'latin1')
  const link = entry.linkName.slice(0, FIELD.linkName[1])
  if (link !== '') into.write(link, at + FIELD.linkName[0], link.length, 'latin1')
  into.write('ustar\x0000', at + FIELD.magic[0], FIELD.magic[1], 'latin1')
  if (prefix !== '') into.write(prefix, at + FIELD.prefix[0], prefix.length, 'latin1')
  const sum = checksumOf(into, at).toString(8).padStart(6, '0')
  into.write(`${sum}\0 `, at + FIELD.checksum[0], FIELD.checksum[1], 'latin1')
}

/** From 1970 to 2242: a time beyond has a pax record. */
const octalTime = (seconds: number): number => Math.min(Math.max(0, seconds), OCTAL_SIZE_LIMIT)

const octal = (into: Buffer, at: number, field: readonly [number, number], value: number): void => {
  const digits = value.toString(8).padStart(field[1] - 1, '0')
  into.write(digits, at + field[0], digits.length, 'latin1')
}
