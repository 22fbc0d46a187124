import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { World } from '../test/support/world.ts'

const run = promisify(execFile)
const DEADLINE_MS = 120_000

/** What each example prints when it works; times and ids left out. */
const PRINTS: Readonly<Record<string, readonly RegExp[]>> = {
  'baseline-reset.ts': [
    /^in the whole machine [1-9]\d* paths are deleted, [1-9]\d* modified, [1-9]\d* added$/m,
    /^the reset ended sleep 600$/m,
    /^back are README\.md, baseline-reset\.ts,/m,
    /^differences from the start, anywhere: 0$/m,
  ],
  'named-snapshot-reset.ts': [
    /^sorted: 2 lines added, 2 removed$/m,
    /^unique: 1 lines added, 2 removed$/m,
    /^words: apple fig pear$/m,
    /^snapshots: baseline prepared sorted unique$/m,
  ],
  'risky-upgrade.ts': [
    /^after the upgrade: exit 1, greeter 2\.0 needs libgreet$/m,
    /^after the reset: exit 0, greeter 1\.0$/m,
    /^\+echo "greeter 2\.0 needs libgreet" >&2; exit 1$/m,
  ],
  'patch-back.ts': [
    /^the patch changes new\.txt, shopping\.txt; ignored: 1$/m,
    /^merged: oat milk, bread, apples, pears, dates$/m,
    /^status: A {2}new\.txt, M {2}shopping\.txt$/m,
  ],
  'mcp-client.ts': [
    /^tools: workspace_create workspace_list/m,
    /^> snapshot_create\nsnapshot "good"/m,
    /^> workspace_reset\nreset to "good"/m,
    /> workspace_exec\nexit 0 .*\nhello\.sh$/m,
    /^> workspace_diff\nnothing differs in \/ /m,
    /^> workspace_delete\ndeleted /m,
  ],
}

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('the examples', () => {
  const examples = globSync('*.ts', { cwd: import.meta.dirname }).filter((file) => !file.endsWith('.test.ts'))

  test('are the ones that are tested', () => {
    expect(examples.toSorted()).toEqual(Object.keys(PRINTS).toSorted())
  })

  test.each(examples)('%s runs and prints what it claims', { timeout: DEADLINE_MS }, async (example) => {
    const { stdout } = await run(process.execPath, [join(import.meta.dirname, example)], {
      env: { ...process.env, ...world.env },
      timeout: DEADLINE_MS,
    })
    for (const line of PRINTS[example] ?? []) expect(stdout).toMatch(line)
    expect(await world.pyro.workspaces.list(), 'it deletes what it made').toEqual([])
  })
})
