import { readFileSync } from 'node:fs'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import type { InputOf } from '@pyro/protocol'
import { usageError } from '../../args/usage-error.ts'
import { formatBytes } from '../../render/format.ts'
import { inputOf, type Command, type CommandContext } from '../command.ts'

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const input: InputOf<'workspace.file.write'> = {
    ...inputOf<'workspace.file.write'>(args),
    ...(await content(context)),
  }
  const result = await pyro.client.call('workspace.file.write', input, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else {
    const what = result.replaced === null ? (result.created ? 'created' : 'wrote') : `replaced ${result.replaced} in`
    terminal.line(`${what} ${result.path} (${formatBytes(result.sizeBytes)}, mode ${result.mode})`)
  }
  return 0
}

/** From `--text`, a file of this host, or standard input. */
const content = async ({ args, terminal }: CommandContext): Promise<{ textBase64: string } | object> => {
  const file = args.flags['file']
  if (args.input['text'] !== undefined) {
    if (file !== undefined) throw usageError('--text and --file exclude each other', 'choose one')
    return {}
  }
  const bytes = typeof file === 'string' ? readHostFile(file) : await readAll(terminal.input())
  if (bytes.byteLength > LIMITS.fileWriteBytes) throw tooLarge()
  return { textBase64: bytes.toString('base64') }
}

const readHostFile = (path: string): Buffer => {
  try {
    return readFileSync(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const kind = code === 'ENOENT' ? 'path.not-found' : code === 'EISDIR' ? 'path.not-a-file' : 'path.unreadable'
    throw new PyroError(kind, `${path} on this host cannot be read (${code}); nothing was changed`, {
      data: { path },
      cause: error,
    })
  }
}

const readAll = async (input: NodeJS.ReadStream): Promise<Buffer> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of input as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > LIMITS.fileWriteBytes) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const tooLarge = (): PyroError =>
  new PyroError(
    'limit.exceeded',
    `a file write takes at most ${formatBytes(LIMITS.fileWriteBytes)}; nothing was changed`,
    {
      hint: 'pyro workspace sync push takes more',
      data: { limitBytes: LIMITS.fileWriteBytes },
    },
  )
