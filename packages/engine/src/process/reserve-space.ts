import { stat } from 'node:fs/promises'
import { runProgram } from './program.ts'

const TIMEOUT_MS = 5_000

/** Blocks for what a file will yet grow by, so that it can when the host has no space left. Its size stays. */
export const reserveSpace = async (path: string, bytes: number): Promise<void> => {
  const { size } = await stat(path)
  await allocate(path, size, bytes)
}

/** Blocks for the holes that a file has: memory that is mapped onto one ends the process when there is none to be had. */
export const fillHoles = async (path: string): Promise<void> => {
  const { size } = await stat(path)
  if (size > 0) await allocate(path, 0, size)
}

const allocate = async (path: string, offset: number, bytes: number): Promise<void> => {
  const args = ['--keep-size', '--offset', String(offset), '--length', String(bytes), path]
  const { exitCode, stderr } = await runProgram('fallocate', args, { timeoutMs: TIMEOUT_MS })
  if (exitCode !== 0) throw new Error(`no space was reserved: ${stderr.trim()}`)
}
