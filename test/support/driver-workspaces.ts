import type { TestedDriver } from '@pyro/driver-testkit'
import type { CreateOptions, Workspace } from '@pyro/sdk'
import { ENVIRONMENT, type World } from './world.ts'

/** Enough for what the cases do, and little to wait for. */
const MEMORY_MIB = 512

/** One workspace for each driver, made when it is first asked for, for cases that leave it usable. It goes with its world. */
export class DriverWorkspaces {
  readonly #world: () => World
  readonly #made = new Map<TestedDriver, Promise<Workspace>>()

  constructor(world: () => World) {
    this.#world = world
  }

  of(driver: TestedDriver): Promise<Workspace> {
    const made = this.#made.get(driver) ?? createOn(this.#world(), driver, { name: `shared-${driver}` })
    this.#made.set(driver, made)
    return made
  }
}

/** A workspace of the smallest environment. */
export const createOn = (world: World, driver: TestedDriver, options: CreateOptions = {}): Promise<Workspace> =>
  world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, memoryMib: MEMORY_MIB, ...options })
