import assert from 'node:assert/strict'
import { test } from 'vitest'
import { completePath, STANDARD_PATH } from './find-program.ts'

test.each([
  ['/usr/local/bin:/usr/bin:/bin', '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin'],
  ['/opt/tools:/usr/bin', '/opt/tools:/usr/bin:/usr/sbin'],
  [STANDARD_PATH, STANDARD_PATH],
  ['/opt/tools', '/opt/tools'],
  ['', STANDARD_PATH],
  [undefined, STANDARD_PATH],
])('a search path has an sbin for each bin: %s', (path, complete) => {
  assert.equal(completePath(path), complete)
})
