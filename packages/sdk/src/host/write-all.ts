import { writeSync } from 'node:fs'

/** A write may take less than it is given. */
export const writeAll = (file: number, bytes: Uint8Array): void => {
  for (let at = 0; at < bytes.byteLength;) at += writeSync(file, bytes, at)
}
