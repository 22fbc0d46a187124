import stringWidth from 'string-width'
import { escapeControls } from './escape.ts'

const GAP = '  '
/** A longer cell is cut; the document of `--json` has all of it. */
const CELL_LIMIT = 60
/** The last column pads nothing, so a long cell of it disturbs no other. */
const LAST_CELL_LIMIT = 120

/** Columns as wide as their widest cell on a terminal; text from inside a sandbox is made safe. The last column is not padded. */
export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => {
  const limitOf = (column: number): number => (column === head.length - 1 ? LAST_CELL_LIMIT : CELL_LIMIT)
  const cells = [head, ...rows.map((row) => row.map((text, column) => cell(text, limitOf(column))))]
  const widths = head.map((_, column) => Math.max(...cells.map((row) => stringWidth(row[column] ?? ''))))
  return cells
    .map((row) =>
      row
        .map((text, column) => (column === row.length - 1 ? text : pad(text, widths[column] ?? 0)))
        .join(GAP)
        .trimEnd(),
    )
    .join('\n')
}

/** `name: value` lines, the values in one column. */
export const fields = (rows: readonly (readonly [string, string | null])[]): string => {
  const present = rows.filter((row): row is readonly [string, string] => row[1] !== null && row[1] !== '')
  const width = Math.max(...present.map(([name]) => name.length)) + 1
  return present.map(([name, value]) => `${`${name}:`.padEnd(width)} ${escapeControls(value)}`).join('\n')
}

const cell = (text: string, limit: number): string => {
  const safe = escapeControls(text)
  return safe.length > limit ? `${safe.slice(0, limit - 1)}…` : safe
}

const pad = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - stringWidth(text)))
