import { TarReader, PyroError } from '@pyro/sdk'

/** The content of the one file in a tar, for standard output; a folder needs `--format tar`. */
export const singleFile = (
  path: string,
  write: (bytes: Uint8Array) => void | Promise<void>,
): ((tar: Uint8Array) => Promise<void>) => {
  const pending: Uint8Array[] = []
  const reader = new TarReader({
    entry: ({ type }) => {
      if (type === '0') return
      throw new PyroError(
        'path.not-a-file',
        `${path} is not a file, so it has no content to print; nothing was written`,
        {
          hint: '--format tar prints an archive of it',
        },
      )
    },
    content: (bytes) => void pending.push(bytes),
    end: () => undefined,
  })
  return async (tar) => {
    reader.push(tar)
    for (const bytes of pending.splice(0)) await write(bytes)
  }
}
