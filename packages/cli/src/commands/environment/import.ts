import { environmentLine } from '../../render/environment.ts'
import { formatDuration } from '../../render/format.ts'
import { showProgress } from '../../render/progress.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const { environment, image, replace } = inputOf<'environment.import'>(args)
  const path = args.host['PATH|-'] ?? '-'
  const source = path === '-' ? (terminal.input() as AsyncIterable<Uint8Array>) : path
  const result = await pyro.environments.import(environment, source, {
    image,
    replace,
    signal: interrupts.signal,
    onProgress: showProgress(terminal),
  })
  if (terminal.json) terminal.document(result)
  else {
    terminal.done(environmentLine(result))
    terminal.talk(`imported in ${formatDuration(result.durationMs)}${skipped(result.skippedDevices)}`)
  }
  return 0
}

const skipped = (devices: number): string =>
  devices === 0 ? '' : `; left out ${devices} device ${devices === 1 ? 'node' : 'nodes'}`
