import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { CALL_LIMIT_MS, Calls } from './calls.ts'

const never = (): AbortSignal => new AbortController().signal

describe('calls', () => {
  it('leave room for the answer within the limit', () => {
    expect(new Calls().longestWaitMs(60_000)).toBeLessThan(CALL_LIMIT_MS)
    expect(new Calls().longestWaitMs(5)).toBe(5)
    expect(new Calls(3000).longestWaitMs()).toBe(2000)
  })

  it('that take longer are found again by the same call, and done once', async () => {
    const calls = new Calls()
    let started = 0
    const work = async (): Promise<string> => {
      started += 1
      await sleep(60)
      return 'outcome'
    }
    expect(await calls.within('a', never(), work, 10)).toMatchObject({ done: false })
    expect(await calls.within('a', never(), work, 1000)).toEqual({ done: true, value: 'outcome' })
    expect(started).toBe(1)
    expect(await calls.within('a', never(), work, 1000)).toEqual({ done: true, value: 'outcome' })
    expect(started).toBe(2)
  })

  it('give a failure that came late to the call that comes back', async () => {
    const calls = new Calls()
    const work = async (): Promise<never> => {
      await sleep(20)
      throw new Error('late')
    }
    await calls.within('a', never(), work, 1)
    await sleep(40)
    await expect(calls.within('a', never(), work)).rejects.toThrow('late')
  })

  it('at the same time are two works', async () => {
    const calls = new Calls()
    let started = 0
    const work = (): Promise<number> => Promise.resolve((started += 1))
    await Promise.all([calls.within('a', never(), work), calls.within('a', never(), work)])
    expect(started).toBe(2)
  })

  it('pass a cancellation on while somebody waits, not afterwards', async () => {
    const calls = new Calls()
    const signals: AbortSignal[] = []
    const work = (signal: AbortSignal): Promise<string> => {
      signals.push(signal)
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')))
        setTimeout(() => resolve('done'), 80)
      })
    }
    const waiting = new AbortController()
    const cancelled = calls.within('a', waiting.signal, work, 1000)
    waiting.abort()
    await expect(cancelled).rejects.toThrow('aborted')

    const left = new AbortController()
    expect(await calls.within('b', left.signal, work, 5)).toMatchObject({ done: false })
    left.abort()
    expect(signals[1]?.aborted).toBe(false)
    expect(await calls.within('b', never(), work)).toEqual({ done: true, value: 'done' })
  })
})
