import { AGENT_PATH } from '../microvm/guest-kernel.ts'

/** Where files of ours stand in the VMM's root. */
export const SEEN = {
  kernel: '/pyro/vmlinuz',
  initramfs: '/pyro/initramfs.img',
  memory: '/pyro/memory',
  channel: '/pyro/channel',
  socket: '/pyro/channel/engine.sock',
} as const

/** Descriptors that the VMM is started with, in the order of `vmm.json`. */
const FD = { root: 4, config: 5, state: 6, control: 7 } as const
/** Sets of descriptors, as qemu opens them. */
export const SET = { root: 1, config: 2, state: 3 } as const

/** Of translated code, for an emulated guest: by default it may grow to a quarter of the host's memory. */
const TRANSLATION_CACHE_MIB = 64
/** Until qemu dials the engine's socket again. */
const RECONNECT_MS = 200

export interface MachineShape {
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskBytes: number
}

export interface MachineCall extends MachineShape {
  readonly program: string
  /**
   * Rate of the host's time stamp counter, which an emulated guest reads. Without it the guest measures it against an emulated timer,
   * which on a host under load fails and leaves the guest waiting for ever.
   */
  readonly counterKhz: number
  /** The disk was opened past the host's page cache. */
  readonly direct: boolean
  /** `make` writes its memory to a template, `use` begins with one, whose memory it never writes to. */
  readonly template: 'make' | 'use'
}

/**
 * How qemu is called (qemu-system(1)). A machine has a console, a link and two disks: no network, no firmware of the host, no device
 * that it does not need. Both uses of a template have the same machine.
 */
export const qemuArguments = (call: MachineCall): string[] => {
  const makes = call.template === 'make'
  const memory = `memory-backend-file,id=ram,size=${call.memoryMib}M,mem-path=${SEEN.memory}`
  const cache = call.direct ? 'none' : 'writeback'
  const options: (readonly [string, string])[] = [
    ['display', 'none'],
    ['sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['machine', 'microvm,acpi=on,pcie=off,usb=off,rtc=on,pit=on,pic=on,isa-serial=on,memory-backend=ram'],
    ['accel', `tcg,tb-size=${TRANSLATION_CACHE_MIB}`],
    ['cpu', 'max'],
    ['smp', String(call.vcpus)],
    ['m', `${call.memoryMib}M`],
    ['object', makes ? `${memory},share=on` : `${memory},share=off,readonly=on,rom=off`],
    ['kernel', SEEN.kernel],
    ['initrd', SEEN.initramfs],
    ['append', kernelArguments(call.counterKhz)],
    ['chardev', 'stdio,id=console,signal=off'],
    ['serial', 'chardev:console'],
    ['device', 'virtio-serial-device,max_ports=2'],
    ['chardev', makes ? 'null,id=link' : `socket,id=link,path=${SEEN.socket},reconnect-ms=${RECONNECT_MS}`],
    ['device', 'virtserialport,chardev=link,name=pyro.link,nr=1'],
    ...disk('root', `auto-read-only=off,cache=${cache},aio=threads,discard=unmap,werror=report,rerror=report`),
    ...disk('config', 'readonly=on'),
    ['chardev', `socket,id=control,fd=${FD.control},server=on,wait=off`],
    ['mon', 'chardev=control,mode=control'],
    handed('state'),
  ]
  if (!makes) options.push(['incoming', 'defer'])
  const flags = ['-no-user-config', '-nodefaults', '-no-reboot']
  return [call.program, ...flags, ...options.flatMap(([name, value]) => [`-${name}`, value])]
}

const kernelArguments = (counterKhz: number): string =>
  ['console=ttyS0', 'quiet', 'reboot=t', 'panic=-1', `tsc_early_khz=${counterKhz}`]
    .concat([`rdinit=${AGENT_PATH}`, '--', 'machine'])
    .join(' ')

const handed = (name: keyof typeof SET): [string, string] => ['add-fd', `fd=${FD[name]},set=${SET[name]}`]

const disk = (name: 'root' | 'config', options: string): [string, string][] => [
  handed(name),
  ['drive', `if=none,id=${name},file=/dev/fdset/${SET[name]},format=raw,${options}`],
  ['device', `virtio-blk-device,drive=${name},serial=pyro-${name}`],
]
