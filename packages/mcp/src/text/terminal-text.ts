/**
 * What a person would have seen of the bytes a command printed: escape sequences removed, progress that redraws its line
 * by carriage returns collapsed to its last state, lines clipped. Constant memory, whatever arrives.
 */

/** Characters of one line that are kept. */
export const LINE_LIMIT_CHARACTERS = 2000

const PRINTABLE_RUN = /(?:\t|\P{Cc})+/uy

/**
 * Inside an escape sequence: `escape` after ESC, `csi` until its final byte, `charset` takes one more character, `string`
 * (OSC, DCS, APC, PM, SOS) until BEL or ST, `stringEscape` when ESC was seen there.
 */
type State = 'text' | 'escape' | 'csi' | 'charset' | 'string' | 'stringEscape'

const STRING_INTRODUCERS = new Set(['P', 'X', ']', '^', '_'])
const C1_STRING_INTRODUCERS = new Set(['\u0090', '\u0098', '\u009d', '\u009e', '\u009f'])
const isFinalByte = (character: string): boolean => character >= '@' && character <= '~'
const isIntermediate = (character: string): boolean => character >= ' ' && character <= '/'

export class TerminalText {
  #state: State = 'text'
  #line = ''
  /** Characters of the line beyond the limit. */
  #clipped = 0
  /** A carriage return was seen: the next printable character starts the line anew. */
  #returned = false

  /** True when something of an unfinished line is held. */
  get pending(): boolean {
    return this.#line !== '' || this.#clipped > 0
  }

  /** Takes text without line feeds; `endLine` says where a line ends. */
  write(text: string): void {
    let at = 0
    while (at < text.length) {
      if (this.#state === 'text') {
        PRINTABLE_RUN.lastIndex = at
        const run = PRINTABLE_RUN.exec(text)?.[0]
        if (run !== undefined) {
          this.#print(run)
          at += run.length
          continue
        }
      }
      // A whole character: half of a surrogate pair would be taken for text.
      const character = String.fromCodePoint(text.codePointAt(at) ?? 0)
      this.#control(character)
      at += character.length
    }
  }

  /** The line so far, clipped; the next one begins. An escape sequence does not cross lines. */
  endLine(): string {
    const line = clipNote(this.#line, this.#clipped)
    this.#line = ''
    this.#clipped = 0
    this.#returned = false
    this.#state = 'text'
    return line
  }

  #print(run: string): void {
    if (this.#returned) {
      this.#line = ''
      this.#clipped = 0
      this.#returned = false
    }
    const room = LINE_LIMIT_CHARACTERS - this.#line.length
    this.#line += run.slice(0, Math.max(0, room))
    this.#clipped += Math.max(0, run.length - room)
  }

  #control(character: string): void {
    switch (this.#state) {
      case 'text':
        return this.#plainControl(character)
      case 'escape':
        return this.#afterEscape(character)
      case 'csi':
        if (isFinalByte(character)) this.#state = 'text'
        else if (character === '\u001b') this.#state = 'escape'
        return
      case 'charset':
        this.#state = 'text'
        return
      case 'string':
        if (character === '\u0007' || character === '\u009c') this.#state = 'text'
        else if (character === '\u001b') this.#state = 'stringEscape'
        return
      case 'stringEscape':
        if (character === '\\') this.#state = 'text'
        else if (character !== '\u001b') this.#state = 'string'
    }
  }

  #plainControl(character: string): void {
    if (character === '\u001b') this.#state = 'escape'
    else if (character === '\u009b') this.#state = 'csi'
    else if (C1_STRING_INTRODUCERS.has(character)) this.#state = 'string'
    else if (character === '\r') this.#returned = true
    else if (character === '\b' && this.#clipped === 0) this.#line = this.#line.slice(0, -1)
  }

  #afterEscape(character: string): void {
    if (character === '[') this.#state = 'csi'
    else if (STRING_INTRODUCERS.has(character)) this.#state = 'string'
    else if (isIntermediate(character)) this.#state = 'charset'
    else if (character !== '\u001b') this.#state = 'text'
  }
}

const clipNote = (line: string, clipped: number): string => {
  if (clipped === 0) return line
  // Half of a surrogate pair is no character.
  const whole = /[\ud800-\udbff]$/.test(line) ? line.slice(0, -1) : line
  return `${whole}… (+${clipped + line.length - whole.length} characters)`
}

/** The same for a whole text at once. */
export const plainText = (text: string): string => {
  const terminal = new TerminalText()
  return text
    .split('\n')
    .map((line) => {
      terminal.write(line)
      return terminal.endLine()
    })
    .join('\n')
}

/** A line of a file or patch: kept as it is, only clipped. */
export const clipLine = (line: string): string =>
  line.length <= LINE_LIMIT_CHARACTERS
    ? line
    : clipNote(line.slice(0, LINE_LIMIT_CHARACTERS), line.length - LINE_LIMIT_CHARACTERS)

const escaped = (character: string): string => {
  const code = character.charCodeAt(0)
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
}

/**
 * Names, commands and messages from inside, on one line: control characters, line separators and what reorders text are
 * shown as escapes.
 */
export const oneLine = (text: string): string =>
  clipLine(text.replaceAll(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, escaped))
