import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { batchesOf } from './batches.ts'

const KIB = 1024

const readAll = async (stream: Readable, slow = false): Promise<Buffer> => {
  const parts: Buffer[] = []
  for await (const batch of batchesOf(stream)) {
    if (slow) await setImmediate()
    parts.push(...batch)
  }
  return Buffer.concat(parts)
}

describe('batches of a stream', () => {
  test('hold every byte once, in order, however fast either side is', async () => {
    const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 50 })
    await fc.assert(
      fc.asyncProperty(chunks, fc.boolean(), async (bytes, slow) => {
        const stream = Readable.from(bytes.map((chunk) => Buffer.from(chunk)))
        expect(await readAll(stream, slow)).toEqual(Buffer.concat(bytes))
      }),
      { numRuns: 50 },
    )
  })

  test('hold the writer back when nobody takes them', async () => {
    const stream = new PassThrough()
    const batches = batchesOf(stream)
    const first = batches.next()
    let written = 0
    while (stream.write(Buffer.alloc(64 * KIB)) && written < 10_000 * KIB) {
      written += 64 * KIB
      await setImmediate()
    }
    expect(written).toBeLessThan(1024 * KIB)
    expect((await first).done).toBe(false)
    stream.end()
    let read = 0
    for await (const batch of batches) for (const chunk of batch) read += chunk.length
    expect(read).toBeGreaterThanOrEqual(written - 64 * KIB)
  })

  test('end with the error of the stream, behind all that came before it', async () => {
    const stream = new PassThrough()
    const seen: string[] = []
    const reading = (async (): Promise<void> => {
      for await (const batch of batchesOf(stream)) seen.push(Buffer.concat([...batch]).toString())
    })()
    stream.write('whole')
    await setImmediate()
    stream.destroy(new Error('cut'))
    await expect(reading).rejects.toThrow('cut')
    expect(seen.join('')).toBe('whole')
  })

  test('end with an error when the stream closes before its end, also before anybody looked', async () => {
    const early = new PassThrough()
    early.destroy()
    await expect(readAll(early)).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' })
    const late = new PassThrough()
    const reading = readAll(late)
    late.write('half')
    late.destroy()
    await expect(reading).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' })
  })

  test('let the rest go by when they are given up, however it ends', async () => {
    const stream = new PassThrough()
    stream.write('first')
    for await (const batch of batchesOf(stream)) {
      expect(Buffer.concat([...batch]).toString()).toBe('first')
      break
    }
    for (let written = 0; written < 1024 * KIB; written += 64 * KIB) {
      if (!stream.write(Buffer.alloc(64 * KIB))) await once(stream, 'drain')
    }
    stream.destroy(new Error('nobody cares'))
    await setImmediate()
  })
})
