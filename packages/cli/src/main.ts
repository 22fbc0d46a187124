import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { EXIT, ERRORS, isPyroError, PyroError } from '@pyro/protocol/client'
import { COMMANDS, type CommandEntry } from './generated/commands.ts'
import { MODULES, type CommandId } from './generated/modules.ts'
import { parseArguments, type ParsedArguments } from './args/parse.ts'
import { usageError } from './args/usage-error.ts'
import { findCommand, nextWords } from './args/words.ts'
import { Interrupts } from './interrupts.ts'
import { renderError } from './render/error.ts'
import { Terminal } from './terminal.ts'

/** Pyro itself failed, where the exit code belongs to the user's command. */
const EXIT_PYRO_FAILED = 125
/** Commands that end with the exit code of the user's command. */
const CARRIES_EXIT_CODE: ReadonlySet<CommandId> = new Set(['workspace.exec', 'run', 'workspace.command.wait'])

const main = async (argv: readonly string[]): Promise<number> => {
  // Known before the line is parsed, so that a line that cannot be parsed is answered in the right form, too.
  const terminal = new Terminal({
    json: isOn(argv, '--json'),
    quiet: isOn(argv, '--quiet', '-q'),
    onOutputFailed: (cause) => {
      const error = outputError(cause)
      terminal.error(renderError(error, terminal))
      process.exitCode = exitOf(error, entry)
    },
  })
  const interrupts = new Interrupts()
  let entry: CommandEntry | null = null
  if (argv[0] === COMPLETE) return complete(terminal, argv.slice(2))
  try {
    const found = find(argv)
    entry = found.entry
    if (entry === null) return await showGroup(terminal, found)
    refuseBytes(argv)
    const args = parseArguments(entry, found.rest)
    return await run(entry, args, terminal, interrupts)
  } catch (error) {
    return fail(error, { terminal, interrupts, entry })
  }
}

/** Node makes U+FFFD of what is no text: nobody asked for that. */
const refuseBytes = (argv: readonly string[]): void => {
  if (!argv.some((arg) => arg.includes('\uFFFD')) || isUtf8(readFileSync('/proc/self/cmdline'))) return
  throw usageError('an argument is not UTF-8; nothing was changed', "make such bytes inside, e.g. printf '\\377'")
}

/** What the completion scripts call: `pyro __complete -- WORD…`. */
const COMPLETE = '__complete'

const complete = async (terminal: Terminal, words: readonly string[]): Promise<number> => {
  const completion = await import('./completion/complete.ts')
  await terminal.data(await completion.complete(words))
  return EXIT.ok
}

/** Options that every command has may stand before its words. */
const find = (argv: readonly string[]): ReturnType<typeof findCommand> => {
  const first = argv.findIndex((arg) => !arg.startsWith('-'))
  const leading = first < 0 ? argv : argv.slice(0, first)
  const found = findCommand(COMMANDS, argv.slice(leading.length))
  return { ...found, rest: [...leading, ...found.rest] }
}

const run = async (
  entry: CommandEntry,
  args: ParsedArguments,
  terminal: Terminal,
  interrupts: Interrupts,
): Promise<number> => {
  if (args.help) {
    const { commandHelp } = await import('./args/help.ts')
    await terminal.data(commandHelp(entry))
    return EXIT.ok
  }
  const [{ Pyro }, { command }] = await Promise.all([import('@pyro/sdk'), MODULES[entry.id]()])
  const onWorkspaceStarted = (name: string): void => terminal.talk(`${name} was stopped; it was started for this`)
  const pyro = Pyro.open({ onWorkspaceStarted })
  interrupts.onLeft(() => show(left(entry, args), terminal, entry))
  try {
    return await command({ args, terminal, interrupts, pyro })
  } finally {
    terminal.clearProgress()
    terminal.closeInput()
    pyro.close()
  }
}

/** The words named a group, or nothing: help when it was asked for or nothing was said at all. */
const showGroup = async (terminal: Terminal, { words, rest }: ReturnType<typeof findCommand>): Promise<number> => {
  const [flag] = rest
  if (words.length === 0 && (flag === '--version' || flag === '-v')) return main(['version', ...rest.slice(1)])
  const asked = rest.includes('--help') || rest.includes('-h') || (words.length === 0 && rest.length === 0)
  if (!asked) throw incomplete(words, flag)
  const { groupHelp } = await import('./args/help.ts')
  await terminal.data(groupHelp(COMMANDS, words))
  return EXIT.ok
}

const incomplete = (words: readonly string[], flag: string | undefined): PyroError => {
  const name = ['pyro', ...words].join(' ')
  if (words.length === 0 && flag !== undefined) return usageError(`pyro has no option ${flag}`, 'pyro --help')
  return usageError(`${name} needs one of: ${nextWords(COMMANDS, words).join(', ')}`, `${name} --help`)
}

interface Failure {
  readonly terminal: Terminal
  readonly interrupts: Interrupts
  readonly entry: CommandEntry | null
}

const fail = (thrown: unknown, { terminal, interrupts, entry }: Failure): number => {
  if (terminal.outputClosed.aborted) return Number(process.exitCode ?? EXIT.other)
  const error = isPyroError(thrown) ? thrown : defect(thrown)
  show(error, terminal, entry)
  if (error.code === 'request.cancelled' && interrupts.exitCode !== null) return interrupts.exitCode
  return exitOf(error, entry)
}

const show = (error: PyroError, terminal: Terminal, entry: CommandEntry | null): void => {
  if (terminal.json) terminal.document({ error: error.toBody() })
  else terminal.error(renderError(error, terminal, entry))
}

/** Nobody waits for the engine's answer any more. */
const left = (entry: CommandEntry, args: ParsedArguments): PyroError => {
  const name = ['pyro', ...entry.words].join(' ')
  return new PyroError('request.cancelled', `${name} was left before it had ended; what it began may go on`, {
    hint: whereToLook(entry, args),
  })
}

const whereToLook = ({ id }: CommandEntry, { input: { workspace } }: ParsedArguments): string => {
  if (typeof workspace === 'string') return `pyro workspace status ${workspace}`
  if (id.startsWith('environment.')) return 'pyro env list'
  return id.startsWith('daemon.') ? 'pyro daemon status' : 'pyro workspace list'
}

const exitOf = (error: PyroError, entry: CommandEntry | null): number =>
  entry !== null && CARRIES_EXIT_CODE.has(entry.id) ? EXIT_PYRO_FAILED : ERRORS[error.code].exit

/** Standard output takes no more: what was done stays done, and cannot be told. */
const outputError = (cause: NodeJS.ErrnoException): PyroError => {
  const full = cause.code === 'ENOSPC' || cause.code === 'EDQUOT'
  return full
    ? new PyroError('disk.full', 'no space left on this host for standard output; what was printed is not whole', {
        hint: 'free space on this host, or send the output to another place',
        cause,
      })
    : new PyroError(
        'path.unwritable',
        `standard output cannot be written (${cause.code}); what was printed is not whole`,
        {
          hint: 'send the output to another place',
          cause,
        },
      )
}

const defect = (thrown: unknown): PyroError => {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  return new PyroError('internal', `a defect in the pyro command: ${error.message}`, {
    hint: 'PYRO_DEBUG=1 shows where',
    cause: error,
  })
}

/** Whether the last of these switches is on: `--json`, `--json=true`, not `--json=false`. */
const isOn = (argv: readonly string[], ...switches: readonly string[]): boolean => {
  const last = beforeDashes(argv).findLast((arg) => switches.includes(arg.split('=', 1)[0] ?? ''))
  return last !== undefined && !last.endsWith('=false')
}

const beforeDashes = (argv: readonly string[]): readonly string[] => {
  const dashes = argv.indexOf('--')
  return dashes < 0 ? argv : argv.slice(0, dashes)
}

/** Output may still be on its way to a slow reader: the process ends when it is written, not before. */
const exitCode = await main(process.argv.slice(2))
process.exitCode ??= exitCode
