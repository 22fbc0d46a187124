import { join } from 'node:path'
import { rm } from 'node:fs/promises'
import { finished } from 'node:stream/promises'
import { isPyroError, newCommandId, PyroError, type CommandResult, type Limits, type LimitHit } from '@pyro/protocol'
import type { StartCommand } from '@pyro/protocol/guest'
import type { CommandExit } from '../../agent/agent-client.ts'
import type { LimitCounters, Sandbox } from '../../driver/driver.ts'
import { errorFields, type Log } from '../../lib/log.ts'
import { settleLater, sleep } from '../../lib/wait.ts'
import type { CommandRow } from '../../store/commands.ts'
import type { Store } from '../../store/store.ts'
import { CommandLog } from './command-log.ts'
import { commandResult, type Interruption, type ResultOptions } from './command-result.ts'
import { HeadTail } from './head-tail.ts'
import { endedRow, RunningCommand, type CommandEnd } from './running-command.ts'

const START_TIMEOUT_MS = 20_000
/** A sandbox that is frozen longer than this keeps its command waiting. */
const END_INPUT_TRIES = 5
const END_INPUT_PAUSE_MS = 1_000
const COUNTERS_UNKNOWN: LimitCounters = { memory: 0, pids: 0 }

/** What the commands of a workspace need to know of it. */
export interface CommandHost {
  readonly workspaceId: string
  readonly name: () => string
  /** Counts a new command as activity; its number. */
  readonly nextSequence: () => number
  /** True when the disk stands at its limit. */
  readonly diskFull: () => Promise<boolean>
  readonly lastReset: () => number | null
}

export interface CommandBookOptions {
  readonly store: Store
  readonly limits: Limits
  /** Folder of the logs of all workspaces. */
  readonly logFolder: string
  readonly logger: Log
  readonly host: CommandHost
}

export interface CommandRequest {
  readonly command: string | readonly string[]
  readonly start: StartCommand
  readonly requestId: string | null
}

interface Live {
  readonly running: RunningCommand
  /** The command as it was written down at the end; null when this engine let go of it. */
  readonly ended: Promise<CommandResult | null>
}

/** The commands of one workspace since its last reset. */
export class CommandBook {
  readonly #options: CommandBookOptions
  readonly #live = new Map<string, Live>()

  constructor(options: CommandBookOptions) {
    this.#options = options
  }

  get runningCount(): number {
    return this.#live.size
  }

  running(): RunningCommand[] {
    return [...this.#live.values()].map(({ running }) => running)
  }

  find(commandId: string): RunningCommand | null {
    return this.#live.get(commandId)?.running ?? null
  }

  /** The command is in the store before the agent hears of it. Resolves when it runs, or could not start. */
  async start(sandbox: Sandbox, request: CommandRequest): Promise<RunningCommand> {
    this.#admit(request)
    const { store, host } = this.#options
    const row = store.transaction(() => {
      const fresh = this.#newRow(sandbox, request)
      store.commands.insert(fresh)
      return fresh
    })
    const running = this.#runningCommand(row, sandbox)
    const ended = settleLater<CommandResult | null>()
    this.#live.set(row.id, { running, ended: ended.promise })
    // Before the command can hit a limit: one that is killed at once is told apart, too.
    const before = await this.#counters(sandbox)
    // While the agent works.
    setImmediate(() => this.#trim(host.workspaceId))
    try {
      const output = await sandbox.agent.start(row.id, request.start, { timeoutMs: START_TIMEOUT_MS })
      void this.#follow(running, sandbox, running.consume(output), before).then(ended.resolve, ended.reject)
    } catch (error) {
      // Whether the agent got the request is unknown when the link went: then it is looked for again. Another agent got none.
      if (isPyroError(error) && error.code === 'sandbox.unreachable' && sandbox.agent.other === null) {
        void this.#follow(running, sandbox, running.consume(null), before).then(ended.resolve, ended.reject)
        return running
      }
      this.#live.delete(row.id)
      store.commands.delete(row.id)
      ended.resolve(null)
      await running.finish()
      throw error
    }
    return running
  }

  /** Finds a command again that a former engine started; one the agent does not know is interrupted. */
  async resume(row: CommandRow, sandbox: Sandbox): Promise<void> {
    const running = this.#runningCommand(row, sandbox)
    const ended = settleLater<CommandResult | null>()
    this.#live.set(row.id, { running, ended: ended.promise })
    await running.log.recover((part) => running.remember(part))
    const before = await this.#counters(sandbox)
    void this.#follow(running, sandbox, running.consume(null), before).then(ended.resolve, ended.reject)
    void this.#endInput(row, sandbox)
  }

  /**
   * Nobody goes on with the standard input that a former engine was sending: the command is not left waiting for it. Tried again,
   * within bounds, while the sandbox does not answer or a former writer has not let go.
   */
  async #endInput({ id }: CommandRow, sandbox: Sandbox): Promise<void> {
    for (let tries = 0; tries < END_INPUT_TRIES && this.#live.has(id); tries++) {
      try {
        return await finished(sandbox.agent.stdin(id).end())
      } catch (error) {
        this.#options.logger.debug({ command: id, ...errorFields(error) }, 'standard input was not ended')
      }
      await sleep(END_INPUT_PAUSE_MS)
    }
  }

  /** Rows that a former engine left as running. */
  unended(): CommandRow[] {
    const { store, host } = this.#options
    return store.commands
      .running()
      .filter(({ workspaceId, id }) => workspaceId === host.workspaceId && !this.#live.has(id))
  }

  /** Commands of a former engine whose sandbox is gone; what they printed is in their logs. */
  async recordAllLost(by: string): Promise<void> {
    for (const row of this.unended()) await this.#recordLost(row, by)
  }

  async #recordLost(row: CommandRow, by: string): Promise<void> {
    const { limits, store } = this.#options
    const log = new CommandLog(this.logPath(row.id), limits.commandLogBytes)
    const headTail = { headBytes: limits.inlineHeadBytes, tailBytes: limits.inlineTailBytes }
    const streams = { stdout: new HeadTail(headTail), stderr: new HeadTail(headTail) }
    await log.recover((part) => streams[part.stream].push(part.data))
    store.commands.end(
      {
        ...row,
        state: 'interrupted',
        endedAt: Date.now(),
        interruptedBy: by,
        stdoutBytes: streams.stdout.bytes,
        stderrBytes: streams.stderr.bytes,
        logBytes: log.bytes,
      },
      {
        stdoutHead: streams.stdout.head(),
        stdoutTail: streams.stdout.tail(),
        stderrHead: streams.stderr.head(),
        stderrTail: streams.stderr.tail(),
      },
    )
  }

  /** The command at its end; null when this engine let go of it. Ask before a reset can clear it. */
  async ended(commandId: string): Promise<CommandResult | null> {
    const live = this.#live.get(commandId)
    return live === undefined ? this.result(this.row(commandId)) : live.ended
  }

  /** The row as it is now; `command.not-found` says when the history was cleared. */
  row(commandId: string): CommandRow {
    const { store, host } = this.#options
    const live = this.#live.get(commandId)
    if (live !== undefined) return currentRow(live.running)
    const row = store.commands.get(commandId)
    if (row !== null && row.workspaceId === host.workspaceId) return row
    throw this.#notFound(commandId)
  }

  last(): CommandRow | null {
    const row = this.#options.store.commands.last(this.#options.host.workspaceId)
    const live = row === null ? undefined : this.#live.get(row.id)
    return live === undefined ? row : currentRow(live.running)
  }

  result(row: CommandRow, options: ResultOptions = {}): CommandResult {
    const live = this.#live.get(row.id)
    if (live !== undefined && row.state === 'running') {
      return commandResult(currentRow(live.running), live.running.inline(), options)
    }
    return commandResult(row, this.#options.store.commands.inline(row.id), options)
  }

  logPath(commandId: string): string {
    return commandLogPath(this.#options.logFolder, this.#options.host.workspaceId, commandId)
  }

  /**
   * Ends all running commands for everybody who looks at them, and waits until that is written down; `before`: only those of
   * sandboxes before this generation.
   */
  async interruptAll(interruption: Interruption, before = Infinity): Promise<void> {
    const live = [...this.#live.values()].filter(({ running }) => running.row.generation < before)
    for (const { running } of live) running.interrupt(interruption)
    await Promise.all(live.map(({ ended }) => ended))
  }

  /** This engine lets go of all commands; they live on. */
  releaseAll(): void {
    for (const { running } of this.#live.values()) running.release()
  }

  #runningCommand(row: CommandRow, sandbox: Sandbox): RunningCommand {
    const { limits, logger } = this.#options
    const log = new CommandLog(this.logPath(row.id), limits.commandLogBytes)
    return new RunningCommand({ row, log, agent: sandbox.agent, limits, logger })
  }

  #admit(request: CommandRequest): void {
    const { limits, host } = this.#options
    if (this.#live.size >= limits.runningCommands) {
      throw new PyroError(
        'limit.exceeded',
        `${limits.runningCommands} commands run in "${host.name()}" already; nothing was started`,
        {
          hint: `pyro workspace command list ${host.name()}; pyro workspace command kill ${host.name()} CMD`,
          data: { limit: 'runningCommands', max: limits.runningCommands },
        },
      )
    }
    const words = [...(request.start.argv ?? [request.start.shell ?? '']), ...request.start.env]
    const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0)
    if (bytes > limits.argvBytes) {
      throw new PyroError(
        'limit.exceeded',
        `arguments and environment of the command are ${bytes} bytes, at most ${limits.argvBytes}; nothing was started`,
        { hint: 'put the data into a file or on stdin', data: { limit: 'argvBytes', max: limits.argvBytes } },
      )
    }
  }

  #newRow(sandbox: Sandbox, request: CommandRequest): CommandRow {
    const { host } = this.#options
    return {
      id: newCommandId(),
      workspaceId: host.workspaceId,
      generation: sandbox.record.spec.generation,
      sequence: host.nextSequence(),
      requestId: request.requestId,
      state: 'running',
      command: request.command,
      cwd: request.start.cwd,
      startedAt: Date.now(),
      endedAt: null,
      exitCode: null,
      signal: null,
      timedOut: false,
      limit: null,
      interruptedBy: null,
      stdoutBytes: 0,
      stderrBytes: 0,
      logBytes: 0,
    }
  }

  async #follow(
    running: RunningCommand,
    sandbox: Sandbox,
    end: Promise<CommandEnd | null>,
    before: LimitCounters,
  ): Promise<CommandResult | null> {
    const { store, logger } = this.#options
    const { row } = running
    try {
      const ended = await end
      if (ended === null) return null
      if ('exit' in ended && ended.exit.startError !== null) running.note(`pyro: ${ended.exit.startError.message}\n`)
      const limit = 'exit' in ended ? await this.#limitOf(ended.exit, sandbox, before) : null
      await running.log.flushed()
      const final = endedRow(running, ended, limit)
      const inline = running.inline()
      // The agent keeps the end of a command that a full host keeps us from writing down.
      const written = store.commands.end(final, inline)
      if ('exit' in ended && written) {
        const release = sandbox.agent.release(row.id, final.stdoutBytes + final.stderrBytes)
        release.catch((error: unknown) => logRelease(logger, row.id, error))
      }
      return commandResult(final, inline)
    } catch (error) {
      logger.error({ command: row.id, ...errorFields(error) }, 'the end of a command could not be written down')
      throw error
    } finally {
      this.#live.delete(row.id)
      await running.finish()
    }
  }

  async #limitOf(exit: CommandExit, sandbox: Sandbox, before: LimitCounters): Promise<LimitHit | null> {
    if (exit.startError?.kind === 'limit-pids') return 'pids'
    if (exit.exitCode === 0) return null
    const after = await this.#counters(sandbox)
    if (exit.memoryLimited || after.memory > before.memory) return 'memory'
    if (exit.pidsLimited || after.pids > before.pids) return 'pids'
    return exit.diskLimited || (await this.#options.host.diskFull()) ? 'disk' : null
  }

  async #counters(sandbox: Sandbox): Promise<LimitCounters> {
    try {
      return await sandbox.counters()
    } catch (error) {
      this.#options.logger.warn({ sandbox: sandbox.record.spec.sandboxId, ...errorFields(error) }, 'no limit counters')
      return COUNTERS_UNKNOWN
    }
  }

  /** What cannot be trimmed now is trimmed with the next command. */
  #trim(workspaceId: string): void {
    const { store, limits, logger } = this.#options
    try {
      for (const id of store.commands.trim(workspaceId, limits.historyCommands)) {
        rm(this.logPath(id), { force: true }).catch((error: unknown) => logRelease(logger, id, error))
      }
    } catch (error) {
      logger.warn({ workspace: workspaceId, ...errorFields(error) }, 'the history of commands was not trimmed')
    }
  }

  #notFound(commandId: string): PyroError {
    const { store, host } = this.#options
    const clearedAt = store.commands.clearedAt(host.workspaceId, commandId)
    const why = clearedAt === null ? '' : `: it was cleared by the reset at ${new Date(clearedAt).toISOString()}`
    return new PyroError('command.not-found', `"${host.name()}" has no command ${commandId}${why}`, {
      hint: `pyro workspace command list ${host.name()}`,
      data: { commandId, clearedAt: clearedAt === null ? null : new Date(clearedAt).toISOString() },
    })
  }
}

export const commandLogPath = (logFolder: string, workspaceId: string, commandId: string): string =>
  join(logFolder, workspaceId, `${commandId}.log`)

const currentRow = (running: RunningCommand): CommandRow => ({
  ...running.row,
  stdoutBytes: running.stdoutBytes,
  stderrBytes: running.stderrBytes,
  logBytes: running.log.bytes,
})

const logRelease = (logger: Log, command: string, error: unknown): void => {
  // A sandbox that is gone has taken everything along.
  const level = isPyroError(error) && error.code === 'sandbox.unreachable' ? 'debug' : 'warn'
  logger[level]({ command, ...errorFields(error) }, 'what a command left was not released')
}
