import { fstatSync, writeSync } from 'node:fs'
import { stripVTControlCharacters, styleText } from 'node:util'
import { escapeControls } from './render/escape.ts'

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

export interface TerminalOptions {
  readonly json: boolean
  readonly quiet: boolean
  /** Called once, when a stream takes no more though somebody reads it, e.g. a file on a full disk. */
  readonly onOutputFailed: (error: NodeJS.ErrnoException) => void
}

/** 128 + SIGPIPE: nobody reads our output any more. */
const EXIT_PIPE = 141
/** Between two lines of progress where they do not replace each other. */
const TELL_INTERVAL_MS = 5_000

/**
 * Standard output is data, standard error is talk. Nothing else in the command line writes to either, or reads standard input.
 */
export class Terminal {
  readonly json: boolean
  readonly quiet: boolean
  /** Fires when standard output takes no more: its reader went away, or the writing failed. */
  readonly outputClosed: AbortSignal
  readonly #stdout: Output
  readonly #stderr: Output
  #progressShown = false
  /** Of progress without a terminal: what was not said yet, and when it will be. */
  #untold: string | null = null
  #teller: NodeJS.Timeout | null = null
  #inputOpened = false

  constructor({ json, quiet, onOutputFailed }: TerminalOptions) {
    this.json = json
    this.quiet = quiet
    const closed = new AbortController()
    this.outputClosed = closed.signal
    const failed = (error: NodeJS.ErrnoException): void => {
      if (closed.signal.aborted) return
      closed.abort()
      if (error.code === 'EPIPE') process.exitCode = EXIT_PIPE
      else onOutputFailed(error)
    }
    this.#stdout = new Output(process.stdout, { fd: 1, failed })
    this.#stderr = new Output(process.stderr, { fd: 2, failed })
  }

  /** Bytes or text as they are; the promise holds back whoever produces faster than the reader reads. */
  data(content: string | Uint8Array): void | Promise<void> {
    this.clearProgress()
    return this.#stdout.write(content)
  }

  /** Bytes of a command's standard error. */
  dataError(content: string | Uint8Array): void | Promise<void> {
    this.clearProgress()
    return this.#stderr.write(content)
  }

  /** A line of human output made of our own words and escaped names. */
  line(text: string): void {
    void this.data(`${text}\n`)
  }

  document(value: unknown): void {
    void this.data(`${JSON.stringify(value)}\n`)
  }

  /** Standard input. Not touched unless somebody wants it: to open it takes time. */
  input(): NodeJS.ReadStream {
    this.#inputOpened = true
    return process.stdin
  }

  /** A reader that was left half-way must not keep the process. */
  closeInput(): void {
    if (this.#inputOpened) process.stdin.destroy()
  }

  /** Says on standard output what a command that changes something has done. */
  done(text: string): void {
    if (!this.quiet) this.line(text)
  }

  /** Summary, hint or warning, on one line, made safe to show. */
  talk(text: string): void {
    if (this.quiet || this.json || this.outputClosed.aborted) return
    this.error(escapeControls(text))
  }

  /** Of our own words and escaped names, like a line. */
  error(text: string): void {
    this.clearProgress()
    void this.#stderr.write(`${text}\n`)
  }

  /** One line that replaces itself on a terminal. Elsewhere a line now and then, of what takes long. */
  progress(text: string): void {
    if (this.quiet || this.json) return
    if (!this.talksToPerson) {
      this.#untold = text
      this.#teller ??= setInterval(() => this.#tell(), TELL_INTERVAL_MS).unref()
      return
    }
    const width = process.stderr.columns
    process.stderr.write(`\r\u001b[K${shownProgress(text).slice(0, Math.max(10, width - 1))}`)
    this.#progressShown = true
  }

  clearProgress(): void {
    if (this.#progressShown) process.stderr.write('\r\u001b[K')
    this.#progressShown = false
    if (this.#teller !== null) clearInterval(this.#teller)
    this.#teller = null
    this.#untold = null
  }

  /** What has not changed since is not said again. */
  #tell(): void {
    if (this.#untold !== null && !this.outputClosed.aborted) void this.#stderr.write(`${shownProgress(this.#untold)}\n`)
    this.#untold = null
  }

  /** True when standard error is a terminal. */
  get talksToPerson(): boolean {
    return process.stderr.isTTY
  }

  styled(style: Style, text: string): string {
    return styleText(style, text, { stream: process.stdout })
  }

  styledError(style: Style, text: string): string {
    return styleText(style, text, { stream: process.stderr })
  }
}

const shownProgress = (text: string): string => escapeControls(stripVTControlCharacters(text))

interface OutputOptions {
  readonly fd: number
  readonly failed: (error: NodeJS.ErrnoException) => void
}

/** One of our standard streams. */
class Output {
  readonly #stream: NodeJS.WriteStream
  readonly #failed: OutputOptions['failed']
  /** Set when it is a file, or a device that is no terminal. */
  readonly #file: number | null
  /** What all who wait for room in a full stream wait for. */
  #room: Promise<void> | null = null

  constructor(stream: NodeJS.WriteStream, { fd, failed }: OutputOptions) {
    this.#stream = stream
    this.#failed = failed
    this.#file = !stream.isTTY && isFile(fd) ? fd : null
    stream.on('error', failed)
  }

  write(content: string | Uint8Array): void | Promise<void> {
    if (this.#file !== null) return this.#writeFile(this.#file, content)
    const stream = this.#stream
    if (stream.destroyed || stream.write(content)) return
    this.#room ??= this.#drained()
    return this.#room
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const settle = (): void => {
        this.#stream.off('drain', settle).off('close', settle)
        this.#room = null
        resolve()
      }
      this.#stream.on('drain', settle).on('close', settle)
    })
  }

  /** Node's own stream for files takes a write for whole of which a full disk took a part. */
  #writeFile(file: number, content: string | Uint8Array): void {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    try {
      for (let at = 0; at < bytes.byteLength;) at += writeSync(file, bytes, at)
    } catch (error) {
      this.#failed(error as NodeJS.ErrnoException)
    }
  }
}

const isFile = (fd: number): boolean => {
  const stats = fstatSync(fd)
  return stats.isFile() || stats.isCharacterDevice()
}
