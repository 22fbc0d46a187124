import { readFile, stat } from 'node:fs/promises'
import { release } from 'node:os'
import type { Probe } from '../../driver/driver.ts'
import { errnoOf } from '../../process/identity.ts'

const KVM = '/dev/kvm'
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

/** Null when Firecracker can use KVM here. */
export const missingKvm = async (): Promise<Probe | null> => {
  if (process.arch !== 'x64') return { ok: false, detail: 'this driver is made for x86-64 hosts', fix: null }
  try {
    if (kvmGroups(await stat(KVM)) !== null) return null
    return { ok: false, detail: `${KVM} can be opened by root alone`, fix: `chmod 666 ${KVM}` }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    return { ok: false, detail: `this host has no ${KVM}`, fix: kvmFix(await readFile(CPU_INFO, 'utf8')) }
  }
}

/** The device, and the groups that may open it. */
export const kvmAccess = async (): Promise<{ readonly device: string; readonly groups: number[] }> => ({
  device: KVM,
  groups: kvmGroups(await stat(KVM)) ?? [],
})

/** A machine's state holds what its processor can do, and is loaded by the kernel that saved it. */
export const hostIdentity = async (): Promise<string> => {
  const processor = (await readFile(CPU_INFO, 'utf8')).split('\n\n')[0] ?? ''
  return [release(), ...processor.split('\n').filter((line) => CPU_FIELDS.test(line))].join('\n')
}
