import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { sleep } from '../../lib/wait.ts'
import { startStreamingProgram } from '../../process/streaming-program.ts'

const LOOK_MS = 10
/** Of the console, the newest is looked at. */
const CONSOLE_CHARACTERS = 8192
/** What the guest's console shows when it waits to be called (guest/internal/machine). */
const READY_LINE = 'pyro-agent: ready'

export interface TemplateBoot {
  readonly agentPath: string
  readonly folder: string
  /** For messages. */
  readonly vmmName: string
  readonly vmm: VmmSpec
  readonly timeoutMs: number
  /** What is left to do until the machine runs, once its VMM does. */
  begin?(signal: AbortSignal): Promise<void>
  readonly signal: AbortSignal
  /** Stops the machine and saves it. */
  save(signal: AbortSignal): Promise<void>
}

/** Runs a machine until it waits to be called, saves it and ends it. Its VMM ends with this process at the latest. */
export const bootTemplate = async (boot: TemplateBoot): Promise<void> => {
  try {
    await bootAndSave(boot)
  } finally {
    if (boot.vmm.listen !== '') await rm(boot.vmm.listen, { force: true })
  }
}

/** Nothing runs any more when it settles. */
const bootAndSave = async (boot: TemplateBoot): Promise<void> => {
  const specFile = join(boot.folder, 'vmm.json')
  await writeFile(specFile, JSON.stringify(boot.vmm), { mode: 0o600 })
  await using cleanup = new AsyncDisposableStack()
  const late = AbortSignal.timeout(boot.timeoutMs)
  const signal = AbortSignal.any([boot.signal, late])
  let said = ''
  const options = { stdin: 'ignore', env: {}, signal } as const
  const program = startStreamingProgram(boot.agentPath, ['vmm', 'hold', boot.folder], options)
  cleanup.defer(async () => {
    program.kill()
    await Promise.allSettled([program.ended])
  })
  program.stdout.on('data', (chunk: Buffer) => (said = (said + chunk.toString('utf8')).slice(-CONSOLE_CHARACTERS)))
  const over = new AbortController()
  let end: string | null = null
  const ended = (why: string): void => {
    end = why
    over.abort()
  }
  program.ended.then(
    ({ stderrTail }) => ended(stderrTail.trim()),
    (error: unknown) => ended(error instanceof Error ? error.message : String(error)),
  )
  const failed = (what: string): PyroError =>
    new PyroError('workspace.start-failed', `the template of the microVM was not made: ${what}`, {
      data: { console: said, ended: end !== null },
    })
  const check = (): void => {
    if (end !== null) throw failed(`${boot.vmmName} ended: ${end}`)
    boot.signal.throwIfAborted()
    if (late.aborted) throw failed(`it did not boot within ${boot.timeoutMs / 1000} s`)
  }
  try {
    await boot.begin?.(AbortSignal.any([signal, over.signal]))
  } catch (error) {
    check()
    throw error
  }
  while (!said.includes(READY_LINE)) {
    check()
    await sleep(LOOK_MS)
  }
  await boot.save(signal)
  await cleanup.disposeAsync()
  await rm(specFile)
}
