import { callText, lines, type ToolOf } from '../tool.ts'
import { LineWindow } from '../text/line-window.ts'
import { count, size } from '../text/quantity.ts'
import { clipLine, oneLine } from '../text/terminal-text.ts'
import { startedNote, workspaceOf } from '../workspace-handle.ts'

/** Text of one answer. */
const FILE_LIMIT_BYTES = 16 * 1024
/** Lines asked of the engine at once: as many as fit when each holds one character. */
const LINES_LIMIT = 8 * 1024

/** A path as a person writes it: relative to /workspace, or absolute anywhere in the machine. */
const located = (path: string): { path: string; root: string } =>
  path.startsWith('/') ? { path: path.replace(/^\/+/, '') || '.', root: '/' } : { path, root: '/workspace' }

export const fileRead: ToolOf<'workspace.file.read'> = {
  call: async ({ workspace: reference, path, startLine = 1, maxLines = LINES_LIMIT }, context) => {
    const workspace = await workspaceOf(reference, context)
    const { path: inner, root } = located(path)
    const file = await workspace.files.read(inner, {
      root,
      startLine,
      maxLines: Math.min(maxLines, LINES_LIMIT),
      signal: context.signal,
    })
    if (file.textBase64 !== undefined && file.text.includes('\0')) {
      return {
        text: `binary file, ${size(file.sizeBytes)}: ${callText('workspace_export', { workspace: reference, path, output: 'PATH' })}`,
        structured: { path: file.path, sizeBytes: file.sizeBytes, binary: true },
      }
    }
    const { text, shownLines } = firstLines(file.text)
    const end = startLine + shownLines - 1
    const goesOn = file.more || shownLines < countLines(file.text)
    const of = file.totalLines === null ? '' : ` of ${file.totalLines.toLocaleString('en-US')}`
    const rest = goesOn
      ? `… lines ${startLine}–${end}${of} shown, ${size(file.sizeBytes)} in all: ${callText('file_read', { workspace: reference, path, startLine: end + 1 })}`
      : null
    return {
      text: lines(startedNote(workspace), text === '' && !goesOn ? emptyText(file.sizeBytes, startLine) : text, rest),
      structured: {
        path: file.path,
        sizeBytes: file.sizeBytes,
        mode: file.mode,
        startLine,
        lines: shownLines,
        totalLines: file.totalLines,
        more: goesOn,
        text,
      },
    }
  },
}

const emptyText = (sizeBytes: number, startLine: number): string =>
  sizeBytes === 0 ? '(empty file)' : `(the file ends before line ${startLine})`

const splitLines = (text: string): readonly string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? []
const countLines = (text: string): number => splitLines(text).length

/** As many whole lines as fit; a single longer one is clipped. */
const firstLines = (text: string): { text: string; shownLines: number } => {
  const window = new LineWindow({ maxBytes: FILE_LIMIT_BYTES, keep: 'head', startOffset: 0 })
  let shownLines = 0
  for (const line of splitLines(text)) {
    const clipped = line.endsWith('\n') ? `${clipLine(line.slice(0, -1))}\n` : clipLine(line)
    window.add(clipped, 0)
    if (window.closed) break
    shownLines += 1
  }
  return { text: window.shown.head.replace(/\n$/, ''), shownLines }
}

export const fileWrite: ToolOf<'workspace.file.write'> = {
  call: async ({ workspace: reference, path, text, oldText, replaceAll }, context) => {
    const workspace = await workspaceOf(reference, context)
    const { path: inner, root } = located(path)
    const written = await workspace.files.write(inner, text, {
      root,
      signal: context.signal,
      ...(oldText === undefined ? {} : { oldText, replaceAll: replaceAll ?? false }),
    })
    const what =
      written.replaced === null
        ? written.created
          ? 'created'
          : 'overwrote'
        : `replaced ${count(written.replaced, 'time')} in`
    return {
      text: lines(startedNote(workspace), `${what} ${oneLine(path)} · ${size(written.sizeBytes)}`),
      structured: { ...written },
    }
  },
}
