import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { during } from './injection.ts'
import { Random } from './random.ts'
import { expectLikeModel, Lane } from './workspace-lane.ts'

const WORKSPACES = 20
/** Of each workspace: those that its model replays, one after the other, … */
const STEPS = 6
/** … and those that go on beside them, two at a time. */
const DISTURBANCES = 4

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Like Promise.all, but nothing goes on when it rejects: a second try begins with nobody else in the world. */
const together = async (works: readonly Promise<void>[]): Promise<void> => {
  for (const outcome of await Promise.allSettled(works)) if (outcome.status === 'rejected') throw outcome.reason
}

describe('two hundred operations at once', () => {
  onEveryDriver('concurrent.mixed', async (driver) => {
    await world.pyro.workspaces.delete([], { all: true })
    const random = Random.seeded(`concurrent operations on ${driver}`)
    const names = Array.from({ length: WORKSPACES }, (_, index) => `w${index}`)
    const lanes = await Promise.all(names.map((name, index) => Lane.open(world, driver, random.fork(index), name)))
    const drive = async (lane: Lane): Promise<void> => {
      const steps = async (): Promise<void> => {
        for (let step = 0; step < STEPS; step++) await lane.step()
      }
      const disturbances = async (): Promise<void> => {
        for (let count = 0; count < DISTURBANCES / 2; count++) await lane.disturb()
      }
      await together([steps(), disturbances(), disturbances()])
    }
    await together(lanes.map((lane) => during(lane.told, () => drive(lane))))
    const listed = (await world.pyro.workspaces.list()).map(({ name }) => name)
    expect(listed.sort()).toEqual(names.sort())
    for (const lane of lanes) await during(lane.told, () => expectLikeModel(lane))
    await expectInOrder(world)
    await world.pyro.workspaces.delete([], { all: true })
    await expectInOrder(world)
  })
})
