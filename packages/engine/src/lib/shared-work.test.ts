import assert from 'node:assert/strict'
import { test } from 'vitest'
import type { Progress } from '@pyro/protocol'
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

test('each caller hears how far the work is: the first one from its first word on, a later one what was said last', async () => {
  const shared = new SharedWork<string>()
  const done = Promise.withResolvers<string>()
  const said = (detail: string) => ({ step: 'making', done: null, total: null, unit: null, detail })
  const heard = { first: [] as (string | null)[], later: [] as (string | null)[] }
  const caller = (by: keyof typeof heard) => ({ onProgress: (it: Progress) => void heard[by].push(it.detail) })
  let tell: (progress: Progress) => void = () => assert.fail('the work has not begun')
  const start = (_signal: AbortSignal, onProgress: typeof tell): Promise<string> => {
    tell = onProgress
    onProgress(said('begins'))
    return done.promise
  }
  const first = shared.join('a', caller('first'), start)
  await new Promise((resolve) => setImmediate(resolve))
  tell(said('goes on'))
  const later = shared.join('a', caller('later'), start)
  tell(said('ends'))
  done.resolve('made')
  await Promise.all([first, later])
  assert.deepEqual(heard, { first: ['begins', 'goes on', 'ends'], later: ['goes on', 'ends'] })
})
