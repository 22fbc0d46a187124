import { constants } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { PyroError } from '@pyro/protocol'
import { writeError } from '@pyro/sdk'
import type { HostPath } from './host-paths.ts'

const PATCH_START = 'diff --git '

/**
 * Writes a patch beside its final place and renames it there, so a reader sees the old file or the new one. An existing file is
 * replaced only when it is a patch itself, or empty.
 */
export const writePatchFile = async (target: HostPath, patch: Uint8Array): Promise<void> => {
  if (target.isDirectory) throw new PyroError('path.not-a-file', `${target.shown} is a folder; nothing was written`)
  if (target.exists && !(await isPatchOrEmpty(target))) {
    throw new PyroError('path.exists', `${target.shown} exists and is not a patch; nothing was written`, {
      hint: 'name another output',
    })
  }
  const temporary = join(dirname(target.pinned), `.pyro-patch-${randomBytes(6).toString('hex')}`)
  try {
    await using file = await open(
      temporary,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o644,
    )
    await file.writeFile(patch)
    await file.sync()
    await rename(temporary, target.pinned)
  } catch (error) {
    await rm(temporary, { force: true })
    throw writeError(target.shown, error)
  }
}

const isPatchOrEmpty = async (target: HostPath): Promise<boolean> => {
  await using file = await open(target.pinned, constants.O_RDONLY | constants.O_NOFOLLOW)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(PATCH_START.length), 0, PATCH_START.length, 0)
  return bytesRead === 0 || buffer.subarray(0, bytesRead).toString() === PATCH_START
}
