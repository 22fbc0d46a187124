import { randomInt } from 'node:crypto'
import { basename } from 'node:path'
import { isPyroError, NAME_PATTERN, PyroError, type Progress, type Seed, type WorkspaceRecord } from '@pyro/protocol'
import { environmentTools } from '../environment-tools.ts'
import { seedOf } from '../seed.ts'
import { callText, lines, type Answer, type ToolOf } from '../tool.ts'
import { count, duration } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { definedOnly } from './workspace-exec.ts'

const NAME_LETTERS = 'abcdefghijkmnpqrstuvwxyz23456789'
const NAME_SUFFIX_LENGTH = 4
/** Characters taken of the project's folder for a made-up name. */
const NAME_STEM_LENGTH = 24
/** Entries left out of a seed that are named in the answer. */
const SKIPPED_SHOWN = 3

export const workspaceCreate: ToolOf<'workspace.create'> = {
  ownDeadline: true,
  call: async (input, context) => {
    const { name: given, seed: word, ...options } = input
    const seed = await seedOf(word, context.host)
    // Named here, so that a create that takes longer than the call can be found again.
    const name = given ?? madeUpName(context.host.project)
    const creation = context.creations.begin(name)
    const skipped: string[] = []
    const work = await context.calls.within(
      `workspace_create ${JSON.stringify(input)}`,
      context.signal,
      async (signal) => {
        try {
          const workspace = await context.pyro.workspaces.create({
            ...definedOnly(options),
            name,
            keep: true,
            signal,
            ...(seed === undefined ? {} : { seed }),
            onProgress: (progress) => {
              creation.step = stepText(progress)
              context.progress(creation.step)
            },
            onSkipped: (path, reason) => void skipped.push(`${oneLine(path)} (${reason})`),
          })
          context.creations.succeeded(creation)
          return workspace
        } catch (error) {
          context.creations.failed(creation, asPyroError(error))
          throw error
        }
      },
    )
    if (!work.done) return stillCreating(name, creation.step, work.sinceMs)
    const { info } = work.value
    const tools = await environmentTools(info.environment.name, context)
    return {
      text: lines(recordLine(info, tools), seedLine(info.seed), skippedLine(skipped)),
      structured: { ...info, created: true },
    }
  },
}

const stillCreating = (name: string, step: string, sinceMs: number): Answer => ({
  text: `"${oneLine(name)}" · phase: creating · ${step} · ${duration(sinceMs)} so far\n${callText('workspace_list', { workspace: name })} says when it is running`,
  structured: { name, phase: 'creating', step },
})

export const stepText = ({ step, done, total, unit, detail }: Progress): string => {
  const share = done === null || total === null || total === 0 ? null : `${Math.floor((done / total) * 100)}%`
  const amount = share ?? (done === null || unit === null ? null : `${done.toLocaleString('en-US')} ${unit}`)
  const parts = [amount, detail].filter((part) => part !== null)
  return oneLine(parts.length === 0 ? step : `${step} (${parts.join(', ')})`)
}

const recordLine = (record: WorkspaceRecord, tools: string | null): string =>
  [
    `${record.workspaceId} "${oneLine(record.name)}" ${record.phase}`,
    tools === null ? record.environment.name : `${record.environment.name} (${tools})`,
    record.emulated ? `${record.isolation}, emulated` : record.isolation,
    `network ${record.network}`,
    `${record.vcpus} vCPU ${record.memoryMib} MiB`,
  ].join(' · ')

const seedLine = (seed: Seed): string => {
  if (seed.mode === 'none') return '/workspace is empty'
  const notes = [
    seed.modified === null || seed.modified === 0 ? null : `${seed.modified.toLocaleString('en-US')} modified`,
    seed.untracked === null || seed.untracked === 0 ? null : `${seed.untracked.toLocaleString('en-US')} new`,
    seed.ignored === null || seed.ignored === 0 ? null : `${seed.ignored.toLocaleString('en-US')} ignored left out`,
  ].filter((note) => note !== null)
  const of = seed.mode === 'git' ? 'of the git work tree' : 'of the folder, as it is'
  return `/workspace: ${count(seed.files, 'file')} ${of}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`
}

const skippedLine = (skipped: readonly string[]): string | null => {
  if (skipped.length === 0) return null
  const more = skipped.length > SKIPPED_SHOWN ? ` and ${skipped.length - SKIPPED_SHOWN} more` : ''
  return `not seeded: ${skipped.slice(0, SKIPPED_SHOWN).join(', ')}${more}`
}

const madeUpName = (project: string | null): string => {
  const suffix = Array.from({ length: NAME_SUFFIX_LENGTH }, () => NAME_LETTERS[randomInt(NAME_LETTERS.length)]).join('')
  const stem = basename(project ?? 'workspace')
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, NAME_STEM_LENGTH)
  const name = `${stem}-${suffix}`
  return NAME_PATTERN.test(name) ? name : `workspace-${suffix}`
}

const asPyroError = (error: unknown): PyroError =>
  isPyroError(error) ? error : new PyroError('internal', 'creating the workspace failed', { cause: error })
