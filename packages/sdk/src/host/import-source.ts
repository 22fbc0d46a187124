import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol/client'
import type { ImportSource } from '../handles/environments.ts'
import type { Upload } from '../transport/upload.ts'
import { bytePath } from './path-bytes.ts'
import { checkReadable, kindOf, readChunks, statOf } from './seed.ts'
import { packTar } from './tar/pack.ts'
import { listTree } from './tree.ts'

/** Every image layout has it. */
const LAYOUT_FILE = 'oci-layout'

/** A root filesystem tar or an image layout; a layout folder is sent as a tar. */
export const openImport = (source: ImportSource): { readonly upload: Upload; readonly shown: string } => {
  if (typeof source !== 'string') return { upload: { data: once(source) }, shown: '-' }
  const stats = statOf(source)
  if (stats.isFile()) {
    checkReadable(source)
    return { upload: { data: () => readChunks(source) }, shown: source }
  }
  if (!stats.isDirectory()) {
    throw new PyroError(
      'path.not-a-file',
      `${source} is a ${kindOf(stats)}, neither a tar nor an image layout; nothing was changed`,
      {
        data: { path: source },
      },
    )
  }
  if (!existsSync(join(source, LAYOUT_FILE))) {
    throw new PyroError('environment.invalid', `the folder ${source} is no OCI image layout; nothing was changed`, {
      hint: 'import a root filesystem as a tar: tar -C FOLDER -c . | pyro env import NAME -',
      data: { path: source },
    })
  }
  const entries = listTree(bytePath(realpathSync(source)), () => undefined)
  return { upload: { data: () => packTar(entries) }, shown: source }
}

/** A stream can be read once: when the engine is lost after that, the caller has to start again. */
const once = (source: AsyncIterable<Uint8Array>): NonNullable<Upload['data']> => {
  let used = false
  return () => {
    if (used) {
      throw new PyroError(
        'engine.unreachable',
        'the engine ended while the stream was being sent, and it cannot be read twice',
        {
          hint: 'run the same command again',
        },
      )
    }
    used = true
    return source
  }
}
