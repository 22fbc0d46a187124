import { expect, test } from 'vitest'
import { toPyroError, VolumesError } from './volumes-helper.ts'

test.each([
  ['failed', 'EIO', 'path.unwritable', 'dmesg'],
  ['read-only', 'EROFS', 'path.unwritable', 'dmesg'],
  ['no-space', 'ENOSPC', 'disk.full', 'free space'],
  ['failed', 'EINVAL', 'internal', 'pyro daemon logs'],
] as const)('the helper that answers %s with %s is an error %s', (answer, errno, code, hint) => {
  const error = toPyroError(new VolumesError(answer, errno, 'why'), 'flushing volume x')
  expect(error).toMatchObject({
    code,
    message: 'flushing volume x: why',
    hint: expect.stringContaining(hint) as string,
  })
})
