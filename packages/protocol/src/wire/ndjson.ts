import { FRAME, frameName, type Frame } from './frames.ts'

const BYTES: ReadonlySet<number> = new Set([FRAME.stdout, FRAME.stderr, FRAME.stdin, FRAME.data])

/**
 * One frame of a response for clients that accept `application/x-ndjson`, with its line feed:
 * `{"frame":"stdout","base64":"…"}` for bytes, `{"frame":"result","value":…}` for JSON.
 */
export const ndjsonLine = ({ type, payload }: Frame): string => {
  const frame = frameName(type)
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  if (BYTES.has(type)) return `${JSON.stringify({ frame, base64: bytes.toString('base64') })}\n`
  return `{"frame":${JSON.stringify(frame)},"value":${bytes.toString()}}\n`
}
