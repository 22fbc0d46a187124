import { expect, test } from 'vitest'
import { isOlder } from './vmm-program.ts'

test.each([
  ['QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)', '8.2', true],
  ['QEMU emulator version 8.2.0 (Debian 1:8.2.0+ds-5)', '8.2', false],
  ['QEMU emulator version 10.0.2', '8.2', false],
  ['Firecracker v1.16.0', '1.16.1', true],
  ['Firecracker v1.16.1', '1.16.1', false],
  ['Firecracker v1.17.0-dev', '1.16.1', false],
  ['Firecracker v2.0', '1.16.1', false],
  ['it says nothing', '1.16.1', true],
])('%s is older than %s: %s', (version, oldest, older) => expect(isOlder(version, oldest)).toBe(older))
