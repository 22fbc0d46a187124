import { readFile, stat } from 'node:fs/promises'
import { release } from 'node:os'
import type { VmmSpec } from '@pyro/protocol/guest'
import type { Probe } from '../../driver/driver.ts'
import { errnoOf } from '../../process/identity.ts'

const CPU_INFO = '/proc/cpuinfo'
/** Of a processor, what the state of a machine depends on. */
const CPU_FIELDS = /^(?:vendor_id|cpu family|model|model name|stepping|microcode|flags)\s*:/

interface DeviceStatus {
  readonly mode: number
  readonly gid: number
}

/** Groups that a program without rights has to be in to open the device, or why it cannot. */
export const kvmGroups = ({ mode, gid }: DeviceStatus): number[] | null => {
  const mayAll = (shift: number): boolean => ((mode >> shift) & 0o6) === 0o6
  if (mayAll(0)) return []
  return mayAll(3) && gid > 0 ? [gid] : null
}

/** What a processor of this kind needs so that there is a /dev/kvm. */
export const kvmFix = (cpuInfo: string): string => {
  const flags = /^flags\s*:(.*)$/m.exec(cpuInfo)?.[1]?.split(' ') ?? []
  if (flags.includes('vmx')) return 'modprobe kvm_intel'
  if (flags.includes('svm')) return 'modprobe kvm_amd'
  return 'switch on virtualisation for this host: in its firmware, or as nested virtualisation where it is a VM itself'
}

/** KVM as this host offers it. */
export class Kvm {
  /** Path of the device. */
  readonly device: string

  constructor(device: string) {
    this.device = device
  }

  /** Null when a program without rights can use it. */
  async missing(): Promise<Probe | null> {
    const { device } = this
    if (process.arch !== 'x64') return { ok: false, detail: 'machines are made for x86-64 hosts', fix: null }
    try {
      if (kvmGroups(await stat(device)) !== null) return null
      return {
        ok: false,
        detail: `${device} can be opened by root alone`,
        fix: `groupadd -f -r kvm && chgrp kvm ${device} && chmod 660 ${device}`,
      }
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      return { ok: false, detail: `this host has no ${device}`, fix: kvmFix(await readFile(CPU_INFO, 'utf8')) }
    }
  }

  /** Groups in which it can be opened. */
  async groups(): Promise<number[]> {
    return kvmGroups(await stat(this.device)) ?? []
  }

  /** The device as a VMM sees it. */
  get mount(): VmmSpec['mounts'][number] {
    return { source: this.device, target: '/dev/kvm', access: 'device' }
  }
}

/** A machine's state holds what its processor can do, and is loaded by the kernel that saved it. */
export const hostIdentity = async (): Promise<string> => {
  const processor = (await readFile(CPU_INFO, 'utf8')).split('\n\n')[0] ?? ''
  return [release(), ...processor.split('\n').filter((line) => CPU_FIELDS.test(line))].join('\n')
}
