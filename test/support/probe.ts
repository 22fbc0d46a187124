import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CommandResult } from '@pyro/protocol'
import type { Command, ExecOptions, Workspace } from '@pyro/sdk'
import { findGo, goEnvironment } from '../../scripts/setup/agent.mjs'
import { until } from './world.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const FOLDER = join(ROOT, 'node_modules', '.cache', 'pyro-probe')
const BUILD_DEADLINE_MS = 120_000

/** Where a workspace that was seeded with `probeFolder()` has it. */
export const PROBE = '/workspace/probe'

/** What came of one attempt to do what must not work. */
export interface Outcome {
  readonly attempt: string
  readonly succeeded: boolean
  /** How it was refused, or what succeeded. */
  readonly detail: string
}

/** How much of a resource was taken. */
export interface Taken {
  readonly hog: string
  readonly count: number
  /** Why there was no more; null when there was as much as was asked for. */
  readonly end: string | null
}

let built: string | null = null

/** Folder with the static program `probe` (guest/cmd/probe) in it: a seed. */
export const probeFolder = (): string => {
  if (built !== null) return built
  mkdirSync(FOLDER, { recursive: true })
  const fresh = join(FOLDER, `.probe.${process.pid}`)
  execFileSync(findGo().path, ['build', '-trimpath', '-buildvcs=false', '-ldflags=-s -w', '-o', fresh, './cmd/probe'], {
    cwd: join(ROOT, 'guest'),
    env: goEnvironment(),
    timeout: BUILD_DEADLINE_MS,
  })
  renameSync(fresh, join(FOLDER, 'probe'))
  built = FOLDER
  return built
}

/** The same program for the host. */
export const hostProbe = (): string => join(probeFolder(), 'probe')

/** Makes attempts inside a workspace; each in a process of its own. */
export const attemptIn = async (
  ws: Workspace,
  attempts: readonly string[],
  options: ExecOptions = {},
): Promise<Outcome[]> => outcomesOf((await ws.exec([PROBE, 'try', ...attempts], { check: true, ...options })).stdout)

export const outcomesOf = (stdout: string): Outcome[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome)

/** Takes some of a resource inside and gives it back. */
export const useIn = async (ws: Workspace, hog: string, count: number): Promise<Taken> =>
  takenOf(await ws.exec([PROBE, 'use', hog, String(count)], { check: true }))

export const takenOf = ({ stdout }: Pick<CommandResult, 'stdout'>): Taken => JSON.parse(stdout) as Taken

/** Takes all there is of a resource inside, and holds it until it is killed. */
export const hogIn = async (ws: Workspace, hog: string, limit = 0): Promise<{ command: Command; taken: Taken }> => {
  const command = await ws.exec([PROBE, 'hog', hog, String(limit)], { detach: true })
  let stdout = ''
  await until(
    async () => {
      const listed = (await ws.commands.list()).find(({ commandId }) => commandId === command.commandId)
      stdout = listed?.stdout ?? ''
      return stdout.endsWith('\n')
    },
    `what ${hog} got`,
    HOG_DEADLINE_MS,
  )
  return { command, taken: takenOf({ stdout }) }
}

const HOG_DEADLINE_MS = 60_000
