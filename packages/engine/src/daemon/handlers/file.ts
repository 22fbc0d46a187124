import { isUtf8 } from 'node:buffer'
import { posix } from 'node:path'
import { PyroError, type ParsedInputOf } from '@pyro/protocol'
import type { Sandbox } from '../../driver/driver.ts'
import { startForUse } from '../../workspace/operations/exec.ts'
import type { Call } from '../../workspace/services.ts'
import type { Workspace } from '../../workspace/workspace.ts'
import { progressTo, type Handlers } from '../handler.ts'
import { sayingOutcome } from '../refused-archive.ts'

const DEFAULT_MAX_LINES = 400
const DEFAULT_MAX_BYTES = 65_536

export const fileHandlers = {
  'workspace.file.read': async (call) => {
    const { engine, input, signal } = call
    const window = windowOf(input, engine.services.config.limits.fileReadBytes)
    const path = below(input.root, input.path)
    const workspace = engine.workspaces.get(input.workspace)
    const sandbox = await sandboxOf(workspace, 'file read', call)
    const { dataBase64, ...file } = await sandbox.agent.readFile({ root: input.root, path, ...window }, { signal })
    const data = Buffer.from(dataBase64, 'base64')
    return {
      path: posix.join(input.root, path),
      ...file,
      text: data.toString('utf8'),
      ...(isUtf8(data) ? {} : { textBase64: dataBase64 }),
      bytes: data.length,
    }
  },

  'workspace.file.write': async (call) => {
    const { engine, input, signal } = call
    const data = contentOf(input)
    const max = engine.services.config.limits.fileWriteBytes
    if (data.length > max) {
      throw new PyroError(
        'limit.exceeded',
        `the content has ${data.length} bytes, at most ${max}; nothing was written`,
        {
          hint: 'pyro workspace sync push takes files of any size',
          data: { limit: 'fileWriteBytes', max },
        },
      )
    }
    const path = below(input.root, input.path)
    const workspace = engine.workspaces.get(input.workspace)
    const sandbox = await sandboxOf(workspace, 'file write', call)
    const written = await sandbox.agent.writeFile(
      {
        root: input.root,
        path,
        dataBase64: data.toString('base64'),
        mode: input.mode ?? null,
        oldTextBase64: input.oldText === undefined ? null : Buffer.from(input.oldText).toString('base64'),
        replaceAll: input.replaceAll,
      },
      { signal },
    )
    workspace.touch()
    return { path: posix.join(input.root, path), ...written }
  },

  'workspace.sync.push': async (call) => {
    const { engine, input, upload, reply, signal } = call
    const dest = posix.resolve('/workspace', input.dest)
    const workspace = engine.workspaces.get(input.workspace)
    const sandbox = await sandboxOf(workspace, 'sync push', call)
    const { archiveEntries, archiveBytes, archivePathBytes } = engine.services.config.limits
    const limits = { entries: archiveEntries, bytes: archiveBytes, pathBytes: archivePathBytes }
    const progress = progressTo(reply)
    const pushed = await sayingOutcome('nothing was written', () =>
      sandbox.agent.extract({ dest, delete: input.delete, limits }, upload.data, {
        signal,
        onProgress: ({ files, bytes }) =>
          progress({ step: `pushing to ${dest}`, done: bytes, total: null, unit: 'bytes', detail: `${files} files` }),
      }),
    )
    workspace.touch()
    return { workspaceId: workspace.id, dest, ...pushed }
  },
} satisfies Partial<Handlers>

const sandboxOf = (workspace: Workspace, what: string, call: Call): Promise<Sandbox> =>
  workspace.use(what, call.signal, () => startForUse(workspace, call))

/** The path relative to the root. An absolute one must name something below it. */
const below = (root: string, path: string): string => {
  const relative = posix.relative(root, posix.resolve(root, path))
  if (relative !== '..' && !relative.startsWith('../')) return relative === '' ? '.' : relative
  throw new PyroError('path.outside-root', `${path} is outside ${root}; nothing was changed`, {
    hint: 'use --root / for a path anywhere in the machine',
    data: { path, root },
  })
}

interface Window {
  readonly startLine: number | null
  readonly maxLines: number | null
  readonly offset: number
  readonly maxBytes: number
}

/** By bytes when an offset or a size is named, else by lines. */
const windowOf = (input: ParsedInputOf<'workspace.file.read'>, limitBytes: number): Window => {
  const { startLine, maxLines, offset, maxBytes } = input
  const byLines = startLine !== undefined || maxLines !== undefined
  const byBytes = offset !== undefined || maxBytes !== undefined
  if (byLines && byBytes) {
    throw new PyroError('input.invalid', 'lines and bytes exclude each other', {
      hint: 'use --start-line and --max-lines, or --offset and --max-bytes',
      data: { field: offset === undefined ? 'maxBytes' : 'offset' },
    })
  }
  if (byBytes) {
    const size = Math.min(maxBytes ?? DEFAULT_MAX_BYTES, limitBytes)
    return { startLine: null, maxLines: null, offset: offset ?? 0, maxBytes: size }
  }
  return { startLine: startLine ?? 1, maxLines: maxLines ?? DEFAULT_MAX_LINES, offset: 0, maxBytes: limitBytes }
}

const contentOf = ({ text, textBase64 }: ParsedInputOf<'workspace.file.write'>): Buffer => {
  if (text !== undefined && textBase64 === undefined) return Buffer.from(text)
  if (textBase64 !== undefined && text === undefined) return Buffer.from(textBase64, 'base64')
  throw new PyroError('input.invalid', 'text: give either text or textBase64; nothing was written', {
    data: { field: 'text' },
  })
}
