/** The tar format as POSIX (ustar, pax) and GNU define it, as far as files, folders and links need it. */
export const BLOCK_BYTES = 512
/** Largest number in the eleven octal digits of a size field. */
export const OCTAL_SIZE_LIMIT = 0o77777777777

export const TYPE = {
  file: '0',
  hardLink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  paxNext: 'x',
  paxGlobal: 'g',
  gnuLongName: 'L',
  gnuLongLink: 'K',
} as const

/** Offset and length of the fields of a header block. */
export const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  userName: [265, 32],
  groupName: [297, 32],
  prefix: [345, 155],
} as const

/** Sum of the bytes of a header, its checksum field taken as blanks. */
export const checksumOf = (block: Uint8Array, at = 0): number => {
  let sum = 8 * 0x20
  for (let index = at; index < at + FIELD.checksum[0]; index++) sum += block[index] ?? 0
  for (let index = at + FIELD.type[0]; index < at + BLOCK_BYTES; index++) sum += block[index] ?? 0
  return sum
}

/** Bytes from the end of a payload to the next block. */
export const paddingOf = (sizeBytes: number): number => (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES
