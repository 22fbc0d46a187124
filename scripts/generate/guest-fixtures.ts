import { z } from 'zod'
import { encodeFrame, encodeJsonFrame, FRAME, type FrameName } from '@pyro/protocol'
import * as guest from '@pyro/protocol/guest'
import { jsonFile, type GeneratedFile } from './generated-file.ts'
import { inputSchema } from './json-schema.ts'
import { accepted, EVERYTHING_GIVEN, mutations, type Sample } from './samples.ts'

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

const messages = (): readonly (readonly [string, z.ZodType])[] =>
  Object.entries<unknown>(guest)
    .flatMap(([name, value]) => (value instanceof z.ZodType ? [[name, value] as const] : []))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))

const distinct = (samples: readonly Sample[]): readonly Sample[] => {
  const seen = new Set<string>()
  return samples.filter(({ value }) => {
    const text = JSON.stringify(value)
    if (seen.has(text)) return false
    seen.add(text)
    return true
  })
}

const fixture = (name: string, schema: z.ZodType): Promise<GeneratedFile> => {
  const jsonSchema = inputSchema(schema)
  const valid = distinct(accepted(jsonSchema))
  for (const { name: sampleName, value } of valid) {
    const result = schema.safeParse(value)
    if (!result.success) throw new Error(`${name}, ${sampleName}: ${z.prettifyError(result.error)}`)
  }
  const invalid = distinct(
    valid
      .filter(({ name: sampleName }) => sampleName.endsWith(EVERYTHING_GIVEN))
      .flatMap(({ value }) => [...mutations(value)])
      .filter(({ value }) => !schema.safeParse(value).success),
  )
  return jsonFile(`spec/guest/${kebab(name)}.json`, { message: name, schema: jsonSchema, valid, invalid })
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Whole frames in hex: readers must also take them cut at every byte. */
const frames = (): Promise<GeneratedFile> => {
  const utf8 = new TextEncoder()
  const bytes = (name: FrameName, text: string): Record<string, unknown> => {
    const payload = utf8.encode(text)
    return { name, type: FRAME[name], payloadHex: hex(payload), frameHex: hex(encodeFrame(FRAME[name], payload)) }
  }
  const json = (name: FrameName, value: unknown): Record<string, unknown> => ({
    name,
    type: FRAME[name],
    json: value,
    payloadHex: hex(utf8.encode(JSON.stringify(value))),
    frameHex: hex(encodeJsonFrame(FRAME[name], value)),
  })
  return jsonFile('spec/guest/frames.json', {
    // A call on the link has a head of its own.
    types: Object.fromEntries(Object.entries(FRAME).filter(([name]) => name !== 'head')),
    frames: [
      json('input', { cursor: 0 }),
      bytes('stdout', 'out\n'),
      bytes('stderr', 'ü\n'),
      bytes('stdin', 'in'),
      bytes('stdin', ''),
      bytes('data', '\0'.repeat(512)),
      bytes('data', ''),
      json('event', { type: 'started', pid: 2 }),
      json('result', {}),
      json('error', { kind: 'failed', message: 'no' }),
      json('control', { type: 'signal', signal: 'INT' }),
    ],
    invalid: [
      { name: 'unknown type', frameHex: '7f00000000' },
      { name: 'payload beyond the limit', frameHex: '0400400001' },
      { name: 'negative length when read as signed', frameHex: '04ffffffff' },
    ],
  })
}

export const guestFixtures = async (): Promise<readonly GeneratedFile[]> =>
  Promise.all([frames(), ...messages().map(([name, schema]) => fixture(name, schema))])
