import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tellFirstRun, withoutMeasures } from '../../scripts/first-run/tell.ts'
import { formatted } from '../../scripts/generate/generated-file.ts'
import { World } from '../support/world.ts'

const PATH = 'docs/first-run.md'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('the first run', () => {
  test('prints what docs/first-run.md shows, but for times and sizes', async () => {
    const told = await tellFirstRun({ folder: world.folder, env: { ...process.env, ...world.env } })
    const { text } = await formatted(PATH, told, 'markdown')
    const document = readFileSync(new URL(`../../${PATH}`, import.meta.url), 'utf8')
    expect(withoutMeasures(text), 'npm run first-run writes it again').toBe(withoutMeasures(document))
  })
})
