export interface CpioFile {
  /** Relative, folders first. */
  readonly path: string
  /** Null: a folder. */
  readonly content: Uint8Array | null
  /** Of a file: may it be executed. */
  readonly executable?: boolean
}

const FOLDER = 0o040755
const FILE = 0o100644
const PROGRAM = 0o100755
const ALIGN = 4

/**
 * An archive as the kernel unpacks it for its first root ("newc": Documentation/driver-api/early-userspace/buffer-format.rst). Owners
 * are root and times are zero, so the same files give the same bytes.
 */
export const cpioArchive = (files: readonly CpioFile[]): Buffer => {
  const parts = files.flatMap((file, index) => entry(file, index + 1))
  parts.push(...header({ inode: 0, mode: 0, bytes: 0, path: 'TRAILER!!!' }))
  return Buffer.concat(parts)
}

const entry = ({ path, content, executable }: CpioFile, inode: number): Uint8Array[] => {
  if (content === null) return header({ inode, mode: FOLDER, bytes: 0, path })
  const mode = executable === true ? PROGRAM : FILE
  return [...header({ inode, mode, bytes: content.byteLength, path }), content, padding(content.byteLength)]
}

const header = (entry: { inode: number; mode: number; bytes: number; path: string }): Uint8Array[] => {
  const name = Buffer.from(`${entry.path}\0`)
  // inode, mode, uid, gid, links, time, size; device numbers of the file and of what it may stand for; length of the name, checksum.
  const fields = [entry.inode, entry.mode, 0, 0, 1, 0, entry.bytes].concat([0, 0, 0, 0, name.length, 0])
  const text = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`)
  return [text, name, padding(text.length + name.length)]
}

const padding = (bytes: number): Uint8Array => new Uint8Array((ALIGN - (bytes % ALIGN)) % ALIGN)
