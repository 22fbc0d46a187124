import { PyroError } from '@pyro/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { sleep } from '../lib/wait.ts'
import { Actor } from './actor.ts'

const actor = (): Actor => new Actor(() => 'fix')
const patient = { what: 'test', waitMs: null }

describe('the actor', () => {
  test('runs turns one after the other, in order, whatever fails', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 20 }), async (fails) => {
        const subject = actor()
        const log: string[] = []
        const turns = fails.map((fail, index) =>
          subject.turn(patient, async () => {
            log.push(`begin ${index}`)
            await Promise.resolve()
            log.push(`end ${index}`)
            if (fail) throw new Error(`turn ${index}`)
          }),
        )
        const outcomes = await Promise.allSettled(turns)
        expect(outcomes.map(({ status }) => status === 'rejected')).toEqual(fails)
        expect(log).toEqual(fails.flatMap((_, index) => [`begin ${index}`, `end ${index}`]))
        expect(subject.idle).toBe(true)
      }),
      { numRuns: 30 },
    )
  })

  test('gives a waiting turn up with workspace.busy, naming what is in the way', async () => {
    const subject = actor()
    const held = Promise.withResolvers<void>()
    const first = subject.turn({ what: 'a reset', waitMs: null }, () => held.promise)
    const second = subject.turn({ what: 'exec', waitMs: 10 }, () => Promise.resolve('ran'))
    await expect(second).rejects.toMatchObject({ code: 'workspace.busy', message: expect.stringContaining('a reset') })
    held.resolve()
    await first
    expect(subject.idle).toBe(true)
  })

  test('takes a cancelled turn out of the queue', async () => {
    const subject = actor()
    const held = Promise.withResolvers<void>()
    const first = subject.turn(patient, () => held.promise)
    const cancel = new AbortController()
    let ran = false
    const second = subject.turn({ ...patient, signal: cancel.signal }, async () => {
      ran = true
      await sleep(0)
    })
    cancel.abort(new PyroError('request.cancelled', 'cancelled'))
    await expect(second).rejects.toMatchObject({ code: 'request.cancelled' })
    held.resolve()
    await first
    expect(ran).toBe(false)
  })

  test('refuses everything that waits or comes once it is closed', async () => {
    const subject = actor()
    const held = Promise.withResolvers<void>()
    const first = subject.turn(patient, () => held.promise)
    const second = subject.turn(patient, () => Promise.resolve())
    subject.close(new PyroError('workspace.not-found', 'gone'))
    await expect(second).rejects.toMatchObject({ code: 'workspace.not-found' })
    await expect(subject.turn(patient, () => Promise.resolve())).rejects.toMatchObject({ code: 'workspace.not-found' })
    held.resolve()
    await first
  })
})
