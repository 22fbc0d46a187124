import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MessageLimit } from './message-limit.ts'

const LIMIT_BYTES = 400

const pass = async (
  text: string,
  cuts: readonly number[] = [],
): Promise<{ lines: string; dropped: (string | null)[]; unreadable: string[] }> => {
  const dropped: (string | null)[] = []
  const unreadable: string[] = []
  const limit = new MessageLimit({
    limitBytes: LIMIT_BYTES,
    onDropped: (id) => dropped.push(id),
    onUnreadable: (reason) => unreadable.push(reason),
  })
  const bytes = Buffer.from(text)
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
  for (const [index, from] of at.slice(0, -1).entries()) limit.write(bytes.subarray(from, at[index + 1]))
  limit.end()
  const chunks: Buffer[] = []
  for await (const chunk of limit as AsyncIterable<Buffer>) chunks.push(chunk)
  return { lines: Buffer.concat(chunks).toString(), dropped, unreadable }
}

const long = 'x'.repeat(LIMIT_BYTES)

describe('a line of messages', () => {
  test('goes through as it is, wherever it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ maxLength: 50 })), fc.array(fc.nat()), async (texts, cuts) => {
        const lines = texts.map((text) => `${JSON.stringify(text)}\n`).join('')
        expect(await pass(lines, cuts)).toEqual({ lines, dropped: [], unreadable: [] })
      }),
      { numRuns: 100 },
    )
  })

  test.each([
    ['first', `{"jsonrpc":"2.0","id":7,"method":"x","params":{"text":"${long}"}}`, '7'],
    ['last', `{"method":"x","params":{"text":"${long}"},"jsonrpc":"2.0","id":"a-1"}`, '"a-1"'],
    ['before the version', `{"method":"x","params":{"text":"${long}"},"id":8,"jsonrpc":"2.0"}`, '8'],
    ['nowhere', `{"method":"x","params":{"text":"${long}","id":9}}`, null],
  ])('beyond the limit is dropped, and its id found %s', async (_where, line, id) => {
    const cuts = [3, 100, 250, 399, 401]
    const passed = await pass(`"before"\n${line}\n"after"\n`, cuts)
    expect(passed).toEqual({ lines: '"before"\n"after"\n', dropped: [id], unreadable: [] })
  })

  test('that is no JSON is told, once each, and an empty one is nothing', async () => {
    const { lines, dropped, unreadable } = await pass('"before"\r\nhello\n\n \r\n{"id":1,\n"after"\nrest')
    expect({ lines, dropped }).toEqual({ lines: '"before"\r\n"after"\n', dropped: [] })
    expect(unreadable).toEqual([expect.stringContaining('hello'), expect.stringContaining('JSON')])
  })
})
