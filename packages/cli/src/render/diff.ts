import type { DiffEntry, DiffResult } from '@pyro/protocol'
import { escapeControls } from './escape.ts'
import { counted, formatBytes } from './format.ts'

/** As wide as git's: the graph takes what the names leave. */
const STAT_WIDTH = 80
const NAME_WIDTH = 50
/** Paths that a warning names; the document of `--json` has all of them. */
const NAMED_PATHS = 5
const LETTERS = { added: 'A', modified: 'M', deleted: 'D', typeChanged: 'T' } as const

export const diffNames = ({ entries }: DiffResult): string[] =>
  entries.map((entry) => `${LETTERS[entry.status]}\t${escapeControls(entry.path)}`)

/** ` src/main.py | 12 ++++----`, and a line that adds up, like `git diff --stat`. */
export const diffStat = (diff: DiffResult): string => {
  const rows = diff.entries.map((entry) => ({ name: shortName(entry), count: countOf(entry), entry }))
  const nameWidth = largest(rows, ({ name }) => name.length)
  const countWidth = largest(rows, ({ count }) => count.length)
  const graphWidth = Math.max(10, STAT_WIDTH - nameWidth - countWidth - 5)
  const most = Math.max(
    1,
    largest(diff.entries, ({ additions, deletions }) => (additions ?? 0) + (deletions ?? 0)),
  )
  const scale = Math.min(1, graphWidth / most)
  const lines = rows.map(({ name, count, entry }) =>
    ` ${name.padEnd(nameWidth)} | ${count.padStart(countWidth)} ${graph(entry, scale)}`.trimEnd(),
  )
  return [...lines, totalLine(diff)].join('\n')
}

/** There may be more entries than a call takes arguments. */
const largest = <Item>(items: readonly Item[], sizeOf: (item: Item) => number): number =>
  items.reduce((most, item) => Math.max(most, sizeOf(item)), 0)

const totalLine = ({ entries, totals }: DiffResult): string => {
  const parts = [` ${counted(entries.length, 'path')} changed`]
  if (totals.additions > 0) parts.push(`${counted(totals.additions, 'insertion')}(+)`)
  if (totals.deletions > 0) parts.push(`${counted(totals.deletions, 'deletion')}(-)`)
  return parts.join(', ')
}

const shortName = ({ path, type, linkTarget }: DiffEntry): string => {
  const link = linkTarget === null ? '' : ` -> ${linkTarget}`
  const full = escapeControls(`${path}${type === 'directory' ? '/' : ''}${link}`)
  return full.length > NAME_WIDTH ? `...${full.slice(3 - NAME_WIDTH)}` : full
}

const countOf = (entry: DiffEntry): string => {
  if (entry.binary) return 'Bin'
  if (entry.additions === null && entry.deletions === null)
    return entry.status === 'modified' ? 'mode' : LETTERS[entry.status]
  return String((entry.additions ?? 0) + (entry.deletions ?? 0))
}

const graph = (
  { additions, deletions, binary, sizeBytes, mode, oldMode, status }: DiffEntry,
  scale: number,
): string => {
  if (binary) return sizeBytes === null ? '' : formatBytes(sizeBytes)
  const scaled = (count: number | null): number =>
    count === null || count === 0 ? 0 : Math.max(1, Math.round(count * scale))
  const bars = '+'.repeat(scaled(additions)) + '-'.repeat(scaled(deletions))
  return status === 'modified' && mode !== oldMode ? `${bars} ${oldMode} => ${mode}`.trimStart() : bars
}

/** What a person has to know beside the patch. */
export const notInPatch = (diff: DiffResult): string[] => {
  const warnings: string[] = []
  const left = diff.entries.filter((entry) => !entry.inPatch).map(({ path }) => path)
  if (left.length > 0) warnings.push(`not wholly in the patch (git cannot carry the rest): ${someOf(left)}`)
  if (diff.gitSensitive.length > 0)
    warnings.push(`warning: changed where git would run it: ${someOf(diff.gitSensitive)}`)
  if (diff.patchTruncated)
    warnings.push(`warning: the patch was cut at ${formatBytes(diff.patchBytes)}; --path narrows it`)
  if (diff.note !== null) warnings.push(escapeControls(diff.note))
  return warnings
}

const someOf = (paths: readonly string[]): string => {
  const shown = paths.slice(0, NAMED_PATHS).map(escapeControls).join(', ')
  return paths.length > NAMED_PATHS ? `${shown} and ${paths.length - NAMED_PATHS} more` : shown
}

export const diffSummary = ({ clean, totals, from, to }: DiffResult): string => {
  if (clean) return `no changes from ${from} to ${to}`
  const parts = [
    [totals.added, 'added'],
    [totals.modified, 'modified'],
    [totals.deleted, 'deleted'],
    [totals.typeChanged, 'of another type'],
  ].filter(([count]) => count !== 0)
  const ignored = totals.ignored > 0 ? ` (${totals.ignored} ignored, --ignored lists them)` : ''
  return `${parts.map(([count, what]) => `${count} ${what}`).join(', ') || 'only ignored paths differ'}${ignored}`
}
