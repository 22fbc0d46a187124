import { describe, expect, test } from 'vitest'
import { kvmFix, kvmGroups } from './kvm.ts'

describe('/dev/kvm', () => {
  test('needs no group where all may use it', () => expect(kvmGroups({ mode: 0o020666, gid: 106 })).toEqual([]))
  test('needs its group where that may', () => expect(kvmGroups({ mode: 0o020660, gid: 106 })).toEqual([106]))
  test.each([
    ['root alone may', 0o020600, 106],
    ['its group may only read', 0o020640, 106],
    ["its group is root's", 0o020660, 0],
  ])('is out of reach where %s', (_why, mode, gid) => expect(kvmGroups({ mode, gid })).toBeNull())
})

describe('a host without /dev/kvm', () => {
  const cpu = (flags: string): string => `processor\t: 0\nflags\t\t: fpu ${flags} sse\nbugs\t\t:\n`
  test.each([
    ['vmx', 'modprobe kvm_intel'],
    ['svm', 'modprobe kvm_amd'],
  ])('with %s lacks a module', (flag, fix) => expect(kvmFix(cpu(flag))).toBe(fix))
  test('without either lacks virtualisation', () => expect(kvmFix(cpu('vmxlike'))).toMatch(/^switch on virtualisation/))
})
