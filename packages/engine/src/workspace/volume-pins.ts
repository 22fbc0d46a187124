import { settleLater, type Settled } from '../lib/wait.ts'

/** Volumes that somebody reads now: they are not removed under a diff or an export. */
export class VolumePins {
  readonly #pins = new Map<string, { count: number; readonly free: Settled<void> }>()

  /** Dispose when the volume is not needed any more. */
  pin(volume: string): Disposable {
    const pin = this.#pins.get(volume) ?? { count: 0, free: settleLater<void>() }
    pin.count++
    this.#pins.set(volume, pin)
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (!held) return
        held = false
        pin.count--
        if (pin.count > 0) return
        this.#pins.delete(volume)
        pin.free.resolve()
      },
    }
  }

  isPinned(volume: string): boolean {
    return this.#pins.has(volume)
  }

  /** Settles when nobody reads the volume. */
  async free(volume: string): Promise<void> {
    await this.#pins.get(volume)?.free.promise
  }
}
