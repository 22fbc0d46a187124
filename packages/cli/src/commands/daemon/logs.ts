import { createReadStream, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PyroError } from '@pyro/protocol/client'
import { usageError } from '../../args/usage-error.ts'
import type { Command } from '../command.ts'

const LINES = 200
/** How often a followed log is looked at. */
const FOLLOW_MS = 250

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  if (terminal.json)
    throw usageError('pyro daemon logs has no document; its lines are JSON already', 'leave out --json')
  const path = join(pyro.client.home, 'logs', 'engine.log')
  const log = read(path)
  await terminal.data(lastLines(log, Number(args.input['lines'] ?? LINES)))
  if (args.input['follow'] !== true) return 0
  let at = log.length
  while (!interrupts.signal.aborted && !terminal.outputClosed.aborted) {
    const { size } = statSync(path)
    // A shorter file was begun anew.
    if (size < at) at = 0
    if (size > at) {
      for await (const chunk of createReadStream(path, { start: at, end: size - 1 }) as AsyncIterable<Buffer>) {
        await terminal.data(chunk)
      }
      at = size
    }
    await sleep(FOLLOW_MS)
  }
  return interrupts.exitCode ?? 0
}

const read = (path: string): Buffer => {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new PyroError('path.not-found', `there is no engine log at ${path}`, {
      hint: 'pyro daemon start',
      cause: error,
    })
  }
}

const lastLines = (log: Buffer, count: number): Buffer => {
  let at = log.length - 1
  for (let seen = 0; at > 0 && seen < count; seen++) at = log.lastIndexOf(0x0a, at - 1)
  return log.subarray(Math.max(0, at + (at > 0 ? 1 : 0)))
}
