import { expect, test } from 'vitest'
import { lastWordsOfLinux, orderlyEndOfMachine } from './last-words.ts'

test('a kernel that gave up says why, and nothing else does', () => {
  const log =
    '[   12.1] sysrq: Trigger a crash [   12.2] Kernel panic - not syncing: sysrq triggered crash [   12.3] CPU: 0 PID: 1'
  expect(lastWordsOfLinux(log)).toBe('the kernel of the guest gave up: sysrq triggered crash')
  expect(lastWordsOfLinux('Kernel panic - not syncing: Out of memory')).toBe(
    'the kernel of the guest gave up: Out of memory',
  )
  expect(lastWordsOfLinux('[    0.1] pyro-agent: ready')).toBeNull()
})

test('an agent that ended itself says why', () => {
  const log =
    'pyro-agent: ready EXT4-fs (vda): bad block pyro-agent: mount /dev/vda: structure needs cleaning [    3.7] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 [    3.8] CPU: 0 PID: 90'
  expect(lastWordsOfLinux(log)).toBe('the agent gave up: mount /dev/vda: structure needs cleaning')
})

test('a VMM that was asked to end says so, and otherwise the guest ended', () => {
  const asked = 'qemu-system-x86_64: terminating on signal 15 from pid 4242 (bash)'
  expect(orderlyEndOfMachine(asked)).toBe('its VMM was ended by signal 15')
  expect(orderlyEndOfMachine('[ 1.2] reboot: Power down')).toBe('the guest switched itself off or restarted')
})
