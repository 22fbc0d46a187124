import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpioArchive } from '../../packages/engine/src/drivers/microvm/cpio.ts'
import { AGENT_PATH } from '../../packages/engine/src/drivers/microvm/guest-kernel.ts'
import { timeMs } from '../measure.ts'
import type { MachineCopy } from './machine-copy.ts'

const LOAD_ADDRESS = 0x400000
const HEADERS_BYTES = 64 + 56

/** `reboot(2)`, restart: qemu, which was told to end instead, ends. */
const RESTART = [
  'b8a9000000', // mov eax, 169
  'bfaddee1fe', // mov edi, LINUX_REBOOT_MAGIC1
  'be69191228', // mov esi, LINUX_REBOOT_MAGIC2
  'ba67452301', // mov edx, LINUX_REBOOT_CMD_RESTART
  '0f05', // syscall
].join('')

/** An x86-64 program of this code (elf(5)): its header, one segment, the code. */
const programOf = (code: Buffer): Buffer => {
  const headers = Buffer.alloc(HEADERS_BYTES)
  const bytes = HEADERS_BYTES + code.length
  headers.write('\x7fELF\x02\x01\x01', 'latin1')
  headers.writeUInt16LE(2, 16) // executable
  headers.writeUInt16LE(62, 18) // x86-64
  headers.writeUInt32LE(1, 20) // version
  headers.writeBigUInt64LE(BigInt(LOAD_ADDRESS + HEADERS_BYTES), 24) // entry
  headers.writeBigUInt64LE(64n, 32) // where the segments are described
  headers.writeUInt16LE(64, 52) // bytes of this header
  headers.writeUInt16LE(56, 54) // bytes of a segment's description
  headers.writeUInt16LE(1, 56) // segments
  headers.writeUInt32LE(1, 64) // to be loaded
  headers.writeUInt32LE(5, 68) // read and executed
  headers.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 80)
  headers.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 88)
  headers.writeBigUInt64LE(BigInt(bytes), 96) // in the file
  headers.writeBigUInt64LE(BigInt(bytes), 104) // in memory
  headers.writeBigUInt64LE(4096n, 112) // alignment
  return Buffer.concat([headers, code])
}

/** An initramfs whose init restarts the machine. */
export const writeEmptyInit = async (folder: string): Promise<string> => {
  const path = join(folder, 'empty-init.img')
  const init = { path: AGENT_PATH.slice(1), content: programOf(Buffer.from(RESTART, 'hex')), executable: true }
  await writeFile(path, cpioArchive([init]))
  return path
}

/** Milliseconds from the start of qemu to its end, which the init of the kernel brings about. */
export const bareKernelMs = async (machine: MachineCopy, initramfs: string): Promise<number> => {
  await using _link = await machine.listen()
  await using running = machine.start({ initramfs })
  return await timeMs(() => running.ended)
}
