import { guestArguments } from '../microvm/guest-kernel.ts'
import { SEEN, type OpenedDisk } from '../microvm/machine-shape.ts'

/** First of the descriptors that the VMM is started with: the disks, then config, state and control socket (`vmm.json`). */
const FIRST_FD = 4
/** Sets of descriptors, as qemu opens them. The disks follow. */
export const SET = { config: 1, state: 2, disks: 3 } as const

/** Of translated code, for an emulated guest: by default it may grow to a quarter of the host's memory. */
const TRANSLATION_CACHE_MIB = 64
const WAITS: readonly [string, string] = ['incoming', 'defer']
/** Until qemu dials the engine's socket again. */
const RECONNECT_MS = 200

/** `kvm`: the guest runs on the processor itself; `tcg`: its code is translated. */
export type Accelerator = 'kvm' | 'tcg'

export interface MachineShape {
  readonly accelerator: Accelerator
  readonly vcpus: number
  /** Of the whole machine, and of it for user commands. */
  readonly memoryMib: number
  readonly commandsMib: number
  /** Bytes of each disk, the root first. */
  readonly disks: readonly number[]
}

export interface MachineCall extends MachineShape {
  readonly program: string
  /**
   * Rate of the host's time stamp counter, which an emulated guest reads. Without it the guest measures it against an emulated timer,
   * which on a host under load fails and leaves the guest waiting for ever. Null where KVM tells the guest.
   */
  readonly counterKhz: number | null
  /** How each disk was opened. */
  readonly opened: readonly OpenedDisk[]
  /** `make` writes its memory to a template, `use` begins with one, whose memory it never writes to; `none` boots. */
  readonly template: 'make' | 'use' | 'none'
}

/**
 * How qemu is called (qemu-system(1)). A machine has a console, a link, its disks and one more for its config: no network, no firmware of the host, no device
 * that it does not need. Both uses of a template have the same machine.
 */
export const qemuArguments = (call: MachineCall): string[] => {
  const makes = call.template === 'make'
  const config = FIRST_FD + call.disks.length
  const state = call.template === 'none' ? null : config + 1
  const options: (readonly [string, string])[] = [
    ['display', 'none'],
    ['sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['machine', 'microvm,acpi=on,pcie=off,usb=off,rtc=on,pit=on,pic=on,isa-serial=on,memory-backend=ram'],
    ['accel', call.accelerator === 'kvm' ? 'kvm' : `tcg,tb-size=${TRANSLATION_CACHE_MIB}`],
    ['cpu', call.accelerator === 'kvm' ? 'host' : EMULATED_PROCESSOR],
    ['smp', String(call.vcpus)],
    ['m', `${call.memoryMib}M`],
    ['object', memory(call)],
    ['kernel', SEEN.kernel],
    ['initrd', SEEN.initramfs],
    ['append', kernelArguments(call)],
    ['chardev', 'stdio,id=console,signal=off'],
    ['serial', 'chardev:console'],
    ['device', 'virtio-serial-device,max_ports=2'],
    ['chardev', makes ? 'null,id=link' : `socket,id=link,path=${SEEN.socket},reconnect-ms=${RECONNECT_MS}`],
    ['device', 'virtserialport,chardev=link,name=pyro.link,nr=1'],
    ...call.opened.flatMap((opened, at) => disk(`disk${at}`, FIRST_FD + at, SET.disks + at, diskOptions(opened))),
    ...disk('config', config, SET.config, 'readonly=on'),
    ['chardev', `socket,id=control,fd=${(state ?? config) + 1},server=on,wait=off`],
    ['mon', 'chardev=control,mode=control'],
    ...(state === null ? [] : [handed(state, SET.state)]),
  ]
  if (call.template === 'use') options.push(WAITS)
  const flags = ['-no-user-config', '-nodefaults', '-no-reboot']
  return [call.program, ...flags, ...options.flatMap(([name, value]) => [`-${name}`, value])]
}

/** Whether a machine that was called so waits for the state of a template. */
export const beginsWithTemplate = (argv: readonly string[]): boolean => argv.includes(`-${WAITS[0]}`)

const memory = ({ template, memoryMib }: MachineCall): string => {
  const size = `id=ram,size=${memoryMib}M`
  if (template === 'none') return `memory-backend-ram,${size}`
  const file = `memory-backend-file,${size},mem-path=${SEEN.memory}`
  return template === 'make' ? `${file},share=on` : `${file},share=off,readonly=on,rom=off`
}

/**
 * What programs of today may ask for (x86-64-v2), and no more: string instructions, wide registers and what guards them are there on
 * every processor that emulates all it can, and make an exec a quarter slower than without them. Its timer goes on in sleep (arat):
 * an idle guest needs no ticks.
 */
const EMULATED_PROCESSOR = 'qemu64,ssse3=on,sse4.1=on,sse4.2=on,popcnt=on,lahf_lm=on,arat=on'

/**
 * For emulated processors. They have no clock beside the counter of the host's, and Linux takes that of several processors for
 * unreliable: it would count its own ticks instead, which are late and lost on a host under load. They guess nothing, so that there is
 * nothing to guard against. Memory that the kernel takes for itself is not cleared first: that takes as long as filling it. Timers go
 * off with ticks of 4 ms: with finer ones Go's runtime, which sleeps for 20 µs at a time while it works, would wake all the time.
 *
 * What the kernel does beside each system call, copy, exec and change of task is left out where nobody asks for it: rules of AppArmor
 * and TOMOYO that no environment has, guards of the guest's kernel against the guest's own programs, pressure accounts, and a watch for
 * processors that stand still, as emulated ones do on a host under load. A fork and an exec inside take 8% less without, those through
 * the agent 4%.
 */
const EMULATED_ARGUMENTS =
  'tsc=reliable mitigations=off init_on_alloc=0 highres=off ' +
  'lsm=landlock,yama hardened_usercopy=off randomize_kstack_offset=off psi=0 nowatchdog'

const kernelArguments = ({ accelerator, counterKhz, commandsMib }: MachineCall): string =>
  ['console=ttyS0', 'quiet', 'reboot=t', 'panic=-1']
    .concat(accelerator === 'tcg' ? EMULATED_ARGUMENTS : [])
    .concat(counterKhz === null ? [] : [`tsc_early_khz=${counterKhz}`])
    .concat(guestArguments(commandsMib))
    .join(' ')

const diskOptions = ({ direct, writable }: OpenedDisk): string =>
  [
    ...(writable ? ['auto-read-only=off', 'discard=unmap'] : ['readonly=on']),
    `cache=${direct ? 'none' : 'writeback'}`,
    'aio=threads,werror=enospc,rerror=report',
  ].join(',')

const handed = (fd: number, set: number): [string, string] => ['add-fd', `fd=${fd},set=${set}`]

const disk = (name: string, fd: number, set: number, options: string): [string, string][] => [
  handed(fd, set),
  ['drive', `if=none,id=${name},file=/dev/fdset/${set},format=raw,${options}`],
  ['device', `virtio-blk-device,drive=${name},serial=pyro-${name}`],
]
