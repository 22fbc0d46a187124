import { statSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'

/**
 * Which home an engine has: what it writes goes to the files that it opened, wherever they are by now. Told by the file of its
 * state, which stays the same as long as the home does.
 */
export class HomeIdentity {
  readonly #home: string
  readonly #state: Stats

  private constructor(home: string, state: Stats) {
    this.#home = home
    this.#state = state
  }

  /** After the state was opened. */
  static of(home: string): HomeIdentity {
    return new HomeIdentity(home, statSync(join(home, STATE)))
  }

  /** What became of the home; null while it is where it was. */
  loss(): PyroError | null {
    const found = statSync(join(this.#home, STATE), { throwIfNoEntry: false })
    if (found === undefined) return this.#lost('was removed or moved')
    const isSame = found.dev === this.#state.dev && found.ino === this.#state.ino
    return isSame ? null : this.#lost('was replaced by another one')
  }

  /** @throws PyroError `state.lost` */
  refuseLost(): void {
    const loss = this.loss()
    if (loss !== null) throw loss
  }

  #lost(what: string): PyroError {
    return new PyroError('state.lost', `the home ${this.#home} ${what} while its engine runs; nothing was changed`, {
      data: { path: this.#home },
    })
  }
}

const STATE = 'state.db'
