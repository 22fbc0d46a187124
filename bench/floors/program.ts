import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** Runs a program to its end; stdin and stdout are files or nothing. Throws on a non-zero exit. */
export const program = async (command: string, args: readonly string[]): Promise<string> => {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: Buffer[] = []
  const errors: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${Buffer.concat(errors).toString()}`)
  return Buffer.concat(chunks).toString()
}

/** A pipeline in the host's shell. */
export const shell = (script: string): Promise<string> => program('bash', ['-euc', script])
