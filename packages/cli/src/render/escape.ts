// oxlint-disable-next-line no-control-regex -- finding control characters is the point
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Text from inside a sandbox, safe to show on a terminal: control and direction characters become visible escapes. */
export const escapeControls = (text: string): string =>
  text.replaceAll(CONTROL, (character) => {
    if (character === '\n') return '\\n'
    if (character === '\t') return '\\t'
    if (character === '\r') return '\\r'
    const code = character.codePointAt(0) ?? 0
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
  })

/** The same for text of several lines, whose line ends stay. */
export const escapeLines = (text: string): string => text.split('\n').map(escapeControls).join('\n')
