import { describe, expect, test } from 'vitest'
import { boundaryViolations } from './boundaries.ts'
import { fixture, repositoryFiles } from './sources.ts'

function violations(path: string, text: string): string[] {
  return boundaryViolations(fixture(path, text)).map(({ message }) => message)
}

test('every import in this repository follows the layers', () => {
  const found = boundaryViolations(repositoryFiles())
  expect(found.map(({ path, line, message }) => `${path}:${line} ${message}`)).toEqual([])
})

describe('the check refuses', () => {
  const refused: readonly (readonly [string, string, string])[] = [
    ['a client that imports the engine', 'packages/cli/src/main.ts', "import { x } from '@pyro/engine'"],
    ['a type-only import of the engine', 'packages/mcp/src/main.ts', "import type { X } from '@pyro/engine'"],
    ['a protocol that imports a client', 'packages/protocol/src/errors.ts', "export * from '@pyro/sdk'"],
    ['a protocol with I/O', 'packages/protocol/src/errors.ts', "import { readFile } from 'node:fs/promises'"],
    [
      'an upward import inside the engine',
      'packages/engine/src/disk/pool.ts',
      "import { a } from '../workspace/actor.ts'",
    ],
    ['an upward dynamic import', 'packages/engine/src/lib/a.ts', "await import('../process/run.ts')"],
    ['an upward re-export', 'packages/engine/src/store/a.ts', "export { a } from '../driver/driver.ts'"],
    ['a sibling concern', 'packages/engine/src/diff/a.ts', "import { a } from '../snapshot/b.ts'"],
    [
      'a driver named outside drivers/index.ts',
      'packages/engine/src/daemon/a.ts',
      "import { a } from '../drivers/oci/b.ts'",
    ],
    ['one driver in another', 'packages/engine/src/drivers/fake/a.ts', "import { a } from '../oci/b.ts'"],
    [
      'a relative path into another package',
      'packages/sdk/src/a.ts',
      "import { a } from '../../protocol/src/errors.ts'",
    ],
    ['a package that imports the tests', 'packages/sdk/src/a.ts', "import { a } from '../../../test/e2e/b.ts'"],
    ['a folder without a place', 'packages/engine/src/stuff/a.ts', "import { a } from '../lib/b.ts'"],
    ['the package root from inside', 'packages/engine/src/disk/a.ts', "import { a } from '../index.ts'"],
  ]
  for (const [what, path, text] of refused) {
    test(what, () => {
      expect(violations(path, text)).toHaveLength(1)
    })
  }
})

describe('the check allows', () => {
  const allowed: readonly (readonly [string, string, string])[] = [
    ['the composition root everything', 'packages/engine/src/main.ts', "import { a } from './drivers/index.ts'"],
    ['a folder itself', 'packages/engine/src/disk/pool.ts', "import { a } from './btrfs/b.ts'"],
    ['a downward import', 'packages/engine/src/workspace/a.ts', "import { a } from '../snapshot/b.ts'"],
    ['the list of drivers its drivers', 'packages/engine/src/drivers/index.ts', "import { a } from './oci/b.ts'"],
    ['the package of somebody else', 'packages/engine/src/daemon/a.ts', "import { Hono } from 'hono'"],
    ['the testkit the engine', 'packages/driver-testkit/src/a.ts', "import { a } from '@pyro/engine'"],
  ]
  for (const [what, path, text] of allowed) {
    test(what, () => {
      expect(violations(path, text)).toEqual([])
    })
  }
})
