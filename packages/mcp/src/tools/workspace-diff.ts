import { BASELINE, CURRENT, type DiffEntry, type DiffResult } from '@pyro/protocol'
import { patchPlace, type Workspace } from '@pyro/sdk'
import { writePatchFile } from '../host/patch-file.ts'
import { OUTPUT_LIMIT_BYTES, outputBudget } from '../running-command.ts'
import { callText, lines, type ToolOf } from '../tool.ts'
import { LineWindow } from '../text/line-window.ts'
import { count, size } from '../text/quantity.ts'
import { clipLine, oneLine } from '../text/terminal-text.ts'
import { workspaceOf } from '../workspace-handle.ts'
import { definedOnly } from './workspace-exec.ts'

const STATUS_LETTER: Readonly<Record<DiffEntry['status'], string>> = {
  added: 'A',
  modified: 'M',
  deleted: 'D',
  typeChanged: 'T',
}
/** Paths named in one line of the summary. */
const NAMED_LIMIT = 5

export const workspaceDiff: ToolOf<'workspace.diff'> = {
  call: async ({ workspace: reference, format, output, maxBytes, ...options }, context) => {
    const workspace = await workspaceOf(reference, context)
    // The place is checked before the work is done.
    await using target = output === undefined ? null : await context.host.writable(output)
    const patch = output !== undefined || format !== 'stat'
    const { result: diff, patch: bytes } = await workspace.diff({
      ...definedOnly(options),
      patch,
      signal: context.signal,
    })
    const budget = outputBudget(maxBytes)
    const summary = summaryLines(diff)
    const { patch: _text, patchBase64: _base64, ...data } = diff
    if (target !== null) {
      await writePatchFile(target, bytes)
      return {
        text: lines(
          `wrote ${oneLine(target.shown)} · ${size(bytes.byteLength)}`,
          ...summary,
          applyLine(workspace, diff),
        ),
        structured: { ...data, output: target.shown },
      }
    }
    const call = (more: Record<string, unknown>): string =>
      callText('workspace_diff', { workspace: reference, ...definedOnly(options), ...more })
    const body = format === 'stat' ? statText(diff.entries, budget, call) : patchText(diff, bytes, budget, call)
    return { text: lines(...summary, body), structured: { ...data, shown: body } }
  },
}

/** `git apply` skips in silence what lies elsewhere: said where the seed was only a folder of a work tree. */
const applyLine = ({ info }: Workspace, { root }: DiffResult): string | null => {
  const place = patchPlace({ source: info.seed.source, root })
  return place === null || place.directory === ''
    ? null
    : `apply it at the top of the work tree: git apply --directory=${shellWord(oneLine(place.directory))} PATCH`
}

const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

const summaryLines = (diff: DiffResult): readonly (string | null)[] => {
  const { totals } = diff
  const between = `${diff.from === BASELINE ? 'baseline' : `"${oneLine(diff.from)}"`} and ${diff.to === CURRENT ? 'now' : `"${oneLine(diff.to)}"`}`
  if (diff.clean) return [`nothing differs in ${oneLine(diff.root)} between ${between}`, diff.note]
  const parts = [
    totals.modified === 0 ? null : `${totals.modified} modified`,
    totals.added === 0 ? null : `${totals.added} added`,
    totals.deleted === 0 ? null : `${totals.deleted} deleted`,
    totals.typeChanged === 0 ? null : `${totals.typeChanged} of another type`,
    `+${totals.additions} -${totals.deletions}`,
    totals.ignored === 0 ? null : `${totals.ignored} ignored`,
  ]
  return [
    parts.filter((part) => part !== null).join(' · '),
    totals.notInPatch === 0
      ? null
      : `not wholly in the patch: ${named(
          diff.entries.filter(({ inPatch }) => !inPatch),
          totals.notInPatch,
        )}`,
    diff.gitSensitive.length === 0
      ? null
      : `changed inside .git, look before use: ${diff.gitSensitive.slice(0, NAMED_LIMIT).map(oneLine).join(', ')}`,
    diff.note === null ? null : oneLine(diff.note),
  ]
}

const named = (entries: readonly DiffEntry[], total: number): string => {
  const names = entries
    .slice(0, NAMED_LIMIT)
    .map(({ path, type }) => (type === 'file' ? oneLine(path) : `${oneLine(path)} (${type})`))
  return total > names.length
    ? `${names.join(', ')}${names.length === 0 ? '' : ' and '}${total - names.length} more`
    : names.join(', ')
}

const statLine = (entry: DiffEntry): string => {
  const change = entry.binary
    ? `binary ${size(entry.sizeBytes ?? 0)}`
    : entry.additions === null && entry.deletions === null
      ? entry.type
      : `+${entry.additions ?? 0} -${entry.deletions ?? 0}`
  const mode =
    entry.mode !== null && entry.oldMode !== null && entry.mode !== entry.oldMode
      ? ` mode ${entry.oldMode} → ${entry.mode}`
      : ''
  return `${STATUS_LETTER[entry.status]} ${oneLine(entry.path)} ${change}${mode}`
}

const statText = (
  entries: readonly DiffEntry[],
  budget: number,
  call: (more: Record<string, unknown>) => string,
): string => {
  const window = new LineWindow({ maxBytes: budget, keep: 'head', startOffset: 0 })
  let shown = 0
  for (const entry of entries) {
    window.add(`${statLine(entry)}\n`, 0)
    if (window.closed) break
    shown += 1
  }
  const rest = entries.length - shown
  const more =
    rest === 0
      ? null
      : `… ${count(rest, 'more path')}: ${call({ format: 'stat', maxBytes: OUTPUT_LIMIT_BYTES })}, or name paths`
  return lines(window.shown.head.replace(/\n$/, ''), more)
}

/** The patch of one file each, beginning with its `diff --git` line. */
const filePatches = (patch: string): readonly string[] => patch.split(/^(?=diff --git )/m).filter((part) => part !== '')

const clipLines = (patch: string): string => patch.split('\n').map(clipLine).join('\n')

/** Whole files as long as they fit, then the stat of the others. */
const patchText = (
  diff: DiffResult,
  bytes: Uint8Array,
  budget: number,
  call: (more: Record<string, unknown>) => string,
): string => {
  const patches = filePatches(Buffer.from(bytes).toString())
  const inPatch = diff.entries.filter((entry) => entry.inPatch)
  let text = ''
  let shown = 0
  for (const patch of patches) {
    const clipped = clipLines(patch)
    if (Buffer.byteLength(text) + Buffer.byteLength(clipped) > budget) break
    text += clipped
    shown += 1
  }
  if (shown === patches.length) return text.replace(/\n$/, '')
  const first = shown === 0 ? beginning(patches[0] ?? '', budget) : text.replace(/\n$/, '')
  // Without one patch for each entry the files cannot be told apart: then all are listed.
  const rest = patches.length === inPatch.length ? inPatch.slice(Math.max(1, shown)) : inPatch
  const missing = `… the patch is ${size(bytes.byteLength)}; ${shown === 0 ? 'cut in its first file' : `${shown} of ${count(patches.length, 'file')} shown`}: ${call({ maxBytes: OUTPUT_LIMIT_BYTES })}, name paths, or give output`
  return lines(first, missing, rest.length === 0 ? null : statText(rest, budget, call))
}

const beginning = (patch: string, budget: number): string => {
  const window = new LineWindow({ maxBytes: budget, keep: 'head', startOffset: 0 })
  for (const line of patch.split('\n')) {
    window.add(`${clipLine(line)}\n`, 0)
    if (window.closed) break
  }
  return window.shown.head.replace(/\n$/, '')
}
