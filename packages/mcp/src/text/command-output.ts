import { StringDecoder } from 'node:string_decoder'
import { LineWindow, type LineWindowOptions, type Shown } from './line-window.ts'
import { TerminalText } from './terminal-text.ts'

const LINE_FEED = 0x0a

export type OutputStream = 'stdout' | 'stderr'

/** Collects what a command prints, both streams in order of arrival, in the form in which a model gets it. */
export class CommandOutput {
  readonly #decoders = { stdout: new StringDecoder('utf8'), stderr: new StringDecoder('utf8') }
  readonly #terminal = new TerminalText()
  readonly #window: LineWindow
  #offset: number
  #lastLine = ''
  #lastAtMs: number | null = null

  constructor(options: LineWindowOptions) {
    this.#window = new LineWindow(options)
    this.#offset = options.startOffset
  }

  /** Bytes of output up to here, counted from the start of the command. */
  get offset(): number {
    return this.#offset
  }

  /** When something arrived last. */
  get lastAtMs(): number | null {
    return this.#lastAtMs
  }

  /** The last whole line that is not empty, for progress. */
  get lastLine(): string {
    return this.#lastLine
  }

  get closed(): boolean {
    return this.#window.closed
  }

  write(stream: OutputStream, bytes: Uint8Array): void {
    this.#lastAtMs = Date.now()
    for (let at = 0; at < bytes.byteLength;) {
      const feed = bytes.indexOf(LINE_FEED, at)
      const end = feed === -1 ? bytes.byteLength : feed
      this.#terminal.write(this.#decoders[stream].write(Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at)))
      if (feed === -1) {
        this.#offset += end - at
        return
      }
      this.#offset += end + 1 - at
      at = end + 1
      // A line feed ends an unfinished character of its own stream.
      this.#terminal.write(this.#decoders[stream].end())
      const line = this.#terminal.endLine()
      if (line.trim() !== '') this.#lastLine = line
      this.#window.add(`${line}\n`, this.#offset)
    }
  }

  /** Bytes that were printed but are not kept anywhere. */
  skip(bytes: number): void {
    this.#offset += bytes
  }

  /** Everything so far, an unfinished last line included. To be called once, at the end. */
  finish(): Shown {
    this.#terminal.write(this.#decoders.stdout.end() + this.#decoders.stderr.end())
    if (this.#terminal.pending) this.#window.add(`${this.#terminal.endLine()}\n`, this.#offset)
    return this.#window.shown
  }
}
