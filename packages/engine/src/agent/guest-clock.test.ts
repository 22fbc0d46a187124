import { describe, expect, test } from 'vitest'
import { GuestClock } from './guest-clock.ts'

const HOUR_MS = 3_600_000

/** A host whose clocks a test moves, and a guest that is told in so many milliseconds each what time it is. */
const withGuest = (tookMs: readonly number[] = []) => {
  const host = { wall: 1_764_000_000_000, steady: 1_000 }
  const pass = (ms: number): void => {
    host.wall += ms
    host.steady += ms
  }
  const told: number[] = []
  const clock = new GuestClock(
    () => {
      told.push(host.wall)
      pass(tookMs[told.length - 1] ?? 1)
      return Promise.resolve()
    },
    { wallMs: () => host.wall, steadyMs: () => host.steady },
  )
  return { host, pass, told, clock }
}

describe('the clock of a guest', () => {
  test('is made right before its first program, and then trusted', async () => {
    const { clock, told, pass } = withGuest()
    await clock.makeRight()
    expect(told).toHaveLength(1)
    pass(HOUR_MS)
    expect(clock.makeRight()).toBeNull()
  })

  test.each([
    ['the host slept', HOUR_MS],
    ['its time was set back', -HOUR_MS],
  ])('is made right before the next program when %s', async (_what, jumpMs) => {
    const { clock, told, host } = withGuest()
    await clock.makeRight()
    host.wall += jumpMs
    await clock.makeRight()
    expect(told.at(-1)).toBe(host.wall - 1)
    expect(clock.makeRight()).toBeNull()
  })

  test('is made right before the next program when its machine may have stood still', async () => {
    const { clock, told } = withGuest()
    await clock.makeRight()
    clock.doubt()
    await clock.makeRight()
    expect(told).toHaveLength(2)
  })

  test('is told again what was on its way for too long, within bounds', async () => {
    const late = withGuest([400, 60, 3])
    await late.clock.makeRight()
    expect(late.told).toHaveLength(3)
    const always = withGuest(Array<number>(100).fill(400))
    await always.clock.makeRight()
    expect(always.told).toHaveLength(5)
  })

  test('is looked after now and then, which keeps no program waiting', async () => {
    const { clock, told, pass } = withGuest()
    await clock.makeRight()
    pass(5_000)
    clock.keep()
    expect(told).toHaveLength(1)
    pass(5_000)
    clock.keep()
    expect(told).toHaveLength(2)
    expect(clock.makeRight()).toBeNull()
  })

  test('is told once by all who wait for it, and again after it could not be told', async () => {
    let tries = 0
    const clock = new GuestClock(() => (++tries === 1 ? Promise.reject(new Error('no link')) : Promise.resolve()))
    const both = [clock.makeRight(), clock.makeRight()]
    for (const one of both) await expect(one).rejects.toThrow('no link')
    expect(tries).toBe(1)
    await clock.makeRight()
    expect(tries).toBe(2)
  })
})
