import assert from 'node:assert/strict'
import { test } from 'vitest'
import { hostnameOf } from './naming.ts'

const ID = 'ws-abcdefghijkl'
const long = 'x'.repeat(63)

test.each([
  ['fix-2', 'fix-2'],
  [long, long],
  [`${long}y`, `${'x'.repeat(56)}-ghijkl`],
  ['A', 'a-ghijkl'],
  ['a.b', 'a-b-ghijkl'],
  ['a_b', 'a-b-ghijkl'],
  ['a-', 'a-ghijkl'],
  ['_', 'workspace-ghijkl'],
])('the host name of %s is its own', (name, hostname) => {
  assert.equal(hostnameOf(name, ID), hostname)
})
