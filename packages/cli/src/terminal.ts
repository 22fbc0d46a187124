import { stripVTControlCharacters, styleText } from 'node:util'
import { escapeControls } from './render/escape.ts'

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

export interface TerminalOptions {
  readonly json: boolean
  readonly quiet: boolean
}

/** 128 + SIGPIPE: nobody reads our output any more. */
const EXIT_PIPE = 141

/**
 * Standard output is data, standard error is talk. Nothing else in the command line writes to either, or reads standard input.
 */
export class Terminal {
  readonly json: boolean
  readonly quiet: boolean
  /** Fires when the reader of standard output went away. */
  readonly outputClosed: AbortSignal
  #progressShown = false
  #inputOpened = false

  constructor({ json, quiet }: TerminalOptions) {
    this.json = json
    this.quiet = quiet
    const closed = new AbortController()
    this.outputClosed = closed.signal
    const ignoreBrokenPipe = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'EPIPE') throw error
      process.exitCode = EXIT_PIPE
      closed.abort()
    }
    process.stdout.on('error', ignoreBrokenPipe)
    process.stderr.on('error', ignoreBrokenPipe)
  }

  /** Bytes or text as they are; the promise holds back whoever produces faster than the reader reads. */
  data(content: string | Uint8Array): void | Promise<void> {
    this.clearProgress()
    return write(process.stdout, content)
  }

  /** Bytes of a command's standard error. */
  dataError(content: string | Uint8Array): void | Promise<void> {
    this.clearProgress()
    return write(process.stderr, content)
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

  /** Summary, hint or warning. */
  talk(text: string): void {
    if (this.quiet || this.json) return
    this.clearProgress()
    void write(process.stderr, `${text}\n`)
  }

  error(text: string): void {
    this.clearProgress()
    void write(process.stderr, `${text}\n`)
  }

  /** One line that replaces itself; only on a terminal. */
  progress(text: string): void {
    if (this.quiet || this.json || !this.talksToPerson) return
    const width = process.stderr.columns
    const shown = escapeControls(stripVTControlCharacters(text)).slice(0, Math.max(10, width - 1))
    process.stderr.write(`\r\u001b[K${shown}`)
    this.#progressShown = true
  }

  clearProgress(): void {
    if (this.#progressShown) process.stderr.write('\r\u001b[K')
    this.#progressShown = false
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

const write = (stream: NodeJS.WriteStream, content: string | Uint8Array): void | Promise<void> => {
  if (stream.destroyed) return
  if (stream.write(content)) return
  return new Promise((resolve) => {
    const settle = (): void => {
      stream.off('drain', settle).off('close', settle)
      resolve()
    }
    stream.on('drain', settle).on('close', settle)
  })
}
