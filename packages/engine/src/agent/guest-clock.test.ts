import { describe, expect, test } from 'vitest'
import { GuestClock } from './guest-clock.ts'

const HOUR_MS = 3_600_000

/** When the guest began to run, by the steady clock. */
const BEGAN_MS = 600

/** A host whose clocks a test moves, and a guest that may stand still; it is asked and told the time in so many milliseconds each, in turn. */
const withGuest = (tookMs: readonly number[] = [], jumped = false) => {
  const host = { wall: 1_764_000_000_000, steady: 1_000, stoodMs: 0 }
  const uptimeMs = (): number => host.steady - BEGAN_MS - host.stoodMs
  const pass = (ms: number): void => {
    host.wall += ms
    host.steady += ms
  }
  const asked: number[] = []
  /** How far the guest's clock is off the host's each time when it has been set. */
  const offMs: number[] = []
  let messages = 0
  /** Half of the time passes before the guest acts, half of it after. */
  const message = <T>(act: () => T): Promise<T> => {
    const halfMs = (tookMs[messages++] ?? 2) / 2
    pass(halfMs)
    const answer = act()
    pass(halfMs)
    return Promise.resolve(answer)
  }
  const guest = {
    uptimeUs: () => {
      asked.push(host.wall)
      return message(() => uptimeMs() * 1000)
    },
    setClock: (was: { uptimeUs: number; unixUs: number }) =>
      message(() => {
        const sinceMs = uptimeMs() - was.uptimeUs / 1000
        offMs.push(was.unixUs / 1000 + sinceMs - host.wall)
        return { uptimeUs: uptimeMs() * 1000, jumped }
      }),
  }
  const clock = new GuestClock(guest, { wallMs: () => host.wall, steadyMs: () => host.steady })
  /** A hello that was this long on its way. */
  const hear = (transitMs: number): void => clock.hear((uptimeMs() - transitMs) * 1000)
  return { host, pass, asked, offMs, clock, hear }
}

describe('the clock of a guest', () => {
  test('is made right before its first program, and then trusted', async () => {
    const { clock, offMs, pass } = withGuest()
    await clock.makeRight()
    expect(offMs).toEqual([0])
    pass(HOUR_MS)
    expect(clock.makeRight()).toBeNull()
  })

  test.each([
    ['the host slept', HOUR_MS],
    ['its time was set back', -HOUR_MS],
  ])('is made right before the next program when %s', async (_what, jumpMs) => {
    const { clock, offMs, host } = withGuest()
    await clock.makeRight()
    host.wall += jumpMs
    await clock.makeRight()
    expect(offMs).toEqual([0, 0])
    expect(clock.makeRight()).toBeNull()
  })

  test('is made right before the next program when its machine may have stood still', async () => {
    const { clock, offMs } = withGuest()
    await clock.makeRight()
    clock.doubt()
    await clock.makeRight()
    expect(offMs).toEqual([0, 0])
  })

  test('is not set by an answer that took too long, within bounds', async () => {
    const late = withGuest([400, 60, 3])
    await late.clock.makeRight()
    expect(late.asked).toHaveLength(3)
    expect(late.offMs).toEqual([0])
    const always = withGuest(Array<number>(100).fill(400))
    await always.clock.makeRight()
    expect(always.asked).toHaveLength(5)
    expect(always.offMs).toHaveLength(1)
  })

  test('is not set back by what waited for a VMM that was frozen, and is then set again', async () => {
    const { clock, asked, offMs } = withGuest([2, 12_000])
    await clock.makeRight()
    expect(offMs).toEqual([0, 0])
    expect(asked).toHaveLength(2)
  })

  test('jumps to the time of a hello, and is asked nothing', async () => {
    const { clock, hear, pass, asked, offMs } = withGuest([60], true)
    hear(4)
    pass(20)
    await clock.makeRight()
    expect(asked).toEqual([])
    expect(offMs).toEqual([4])
    expect(clock.makeRight()).toBeNull()
  })

  test.each([
    ['was long on its way', { transit: 90, took: 2, jumped: true }],
    ['was answered late', { transit: 2, took: 160, jumped: true }],
    ['leaves it to go there slowly', { transit: 2, took: 2, jumped: false }],
  ])('is asked when a hello %s', async (_what, { transit, took, jumped }) => {
    const { clock, hear, asked, offMs } = withGuest([took], jumped)
    hear(transit)
    await clock.makeRight()
    expect(asked).toHaveLength(1)
    expect(offMs).toEqual([transit, 0])
  })

  test('is asked when its machine stood still since its hello', async () => {
    const { clock, hear, host, pass, asked, offMs } = withGuest([], true)
    hear(2)
    pass(12_000)
    host.stoodMs = 12_000
    await clock.makeRight()
    expect(asked).toHaveLength(1)
    expect(offMs.at(-1)).toBe(0)
  })

  test('is looked after now and then, which keeps no program waiting', async () => {
    const { clock, asked, pass } = withGuest()
    await clock.makeRight()
    pass(5_000)
    clock.keep()
    expect(asked).toHaveLength(1)
    pass(5_000)
    clock.keep()
    expect(asked).toHaveLength(2)
    expect(clock.makeRight()).toBeNull()
  })

  test('is told once by all who wait for it, and again after it could not be told', async () => {
    let tries = 0
    const clock = new GuestClock({
      uptimeUs: () => (++tries === 1 ? Promise.reject(new Error('no link')) : Promise.resolve(1)),
      setClock: () => Promise.resolve({ uptimeUs: 1, jumped: false }),
    })
    const both = [clock.makeRight(), clock.makeRight()]
    for (const one of both) await expect(one).rejects.toThrow('no link')
    expect(tries).toBe(1)
    await clock.makeRight()
    expect(tries).toBe(2)
  })
})
