import { isPyroError, PyroError } from '@pyro/protocol/client'

export const pathExists = (target: string): PyroError =>
  new PyroError('path.exists', `${target} exists already; nothing was written`, {
    hint: 'choose another --output, or --force to overwrite what the export brings',
    data: { path: target },
  })

/** What a failed write to this host means. Nothing is half-made: the staging folder goes. */
export const writeError = (target: string, cause: unknown): PyroError => {
  if (isPyroError(cause)) return cause
  const code = String((cause as NodeJS.ErrnoException).code)
  if (code === 'EEXIST' || code === 'ENOTEMPTY') return pathExists(target)
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new PyroError('disk.full', `no space left on this host for ${target}; nothing was written`, {
      data: { path: target },
      cause,
    })
  }
  return new PyroError('path.unwritable', `${target} cannot be written (${code}); nothing was written`, {
    data: { path: target },
    cause,
  })
}
