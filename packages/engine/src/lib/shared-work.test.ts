import assert from 'node:assert/strict'
import { test } from 'vitest'
import { SharedWork } from './shared-work.ts'

const work = () => {
  const done = Promise.withResolvers<string>()
  const seen: { starts: number; signal: AbortSignal | null } = { starts: 0, signal: null }
  const start = (signal: AbortSignal): Promise<string> => {
    seen.starts++
    seen.signal = signal
    signal.addEventListener('abort', () => done.reject(signal.reason as Error))
    return done.promise
  }
  return { done, seen, start }
}

test('those who ask for the same share one piece of work', async () => {
  const shared = new SharedWork<string>()
  const { done, seen, start } = work()
  const both = [shared.join('a', {}, start), shared.join('a', {}, start)]
  done.resolve('made')
  assert.deepEqual(await Promise.all(both), ['made', 'made'])
  assert.equal(seen.starts, 1)
  assert.equal(shared.isIdle, true)
})

test('a caller that leaves takes nothing from the others; the last one takes the work along', async () => {
  const shared = new SharedWork<string>()
  const { seen, start } = work()
  const first = new AbortController()
  const second = new AbortController()
  const one = shared.join('a', { signal: first.signal }, start)
  const two = shared.join('a', { signal: second.signal }, start)
  first.abort(new Error('first left'))
  await assert.rejects(one, /first left/)
  assert.equal(seen.signal?.aborted, false)
  second.abort(new Error('second left'))
  await assert.rejects(two, /second left/)
  assert.equal(seen.signal?.aborted, true)
  assert.equal(shared.isIdle, true)
})

test('who comes while aborted work ends gets work of its own', async () => {
  const shared = new SharedWork<string>()
  const ending = Promise.withResolvers<void>()
  const leaver = new AbortController()
  const left = shared.join('a', { signal: leaver.signal }, async (signal) => {
    await ending.promise
    signal.throwIfAborted()
    return 'never'
  })
  leaver.abort(new Error('left'))
  await new Promise((resolve) => setImmediate(resolve))
  const next = shared.join('a', {}, async () => 'fresh')
  ending.resolve()
  await assert.rejects(left, /left/)
  assert.equal(await next, 'fresh')
})
