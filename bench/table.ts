import type { Result } from './row.ts'
import type { Samples, Sizes } from './measure.ts'

const MB = 1_000_000

const medianOf = (samples: Samples | Sizes): number => ('medianMs' in samples ? samples.medianMs : samples.medianBytes)

const figure = (samples: Samples | Sizes | null): string => {
  if (samples === null) return '–'
  return 'medianMs' in samples ? duration(samples.medianMs) : `${(samples.medianBytes / MB).toFixed(1)} MB`
}

const duration = (ms: number): string =>
  ms >= 10_000 ? `${(ms / 1000).toFixed(1)} s` : ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`

const verdict = (result: Result): string => (result.holds === null ? '' : result.holds ? 'yes' : 'NO')

const ratio = (result: Result): string =>
  result.subject === null || result.floor === null
    ? ''
    : `${(medianOf(result.subject) / medianOf(result.floor)).toFixed(2)}×`

export const markdownTable = (results: readonly Result[]): string => {
  const head = ['what', 'driver', 'median', 'floor', '', 'ratio', 'reach', 'holds', 'note']
  const rows = results.map((result) => [
    result.what,
    result.driver,
    figure(result.subject),
    figure(result.floor),
    result.floorName,
    ratio(result),
    result.reach,
    verdict(result),
    result.note,
  ])
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n')
}
