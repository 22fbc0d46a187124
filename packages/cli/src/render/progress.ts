import type { Progress } from '@pyro/protocol'
import type { Terminal } from '../terminal.ts'
import { formatBytes } from './format.ts'

/** One line that follows what the engine is doing. */
export const showProgress =
  (terminal: Terminal) =>
  ({ step, done, total, unit, detail }: Progress): void => {
    const amount = done === null ? '' : ` ${share(done, total, unit)}`
    terminal.progress(`${step}${amount}${detail === null ? '' : ` · ${detail}`}`)
  }

const share = (done: number, total: number | null, unit: Progress['unit']): string => {
  if (unit === 'percent') return `${Math.round(done)}%`
  const shown = (value: number): string => (unit === 'bytes' ? formatBytes(value) : `${value}`)
  return total === null ? shown(done) : `${shown(done)} of ${shown(total)}`
}

/** What a seed or push leaves out is said, not hidden. */
export const warnSkipped =
  (terminal: Terminal) =>
  (path: string, reason: string): void =>
    terminal.talk(`left out: ${path} (${reason})`)
