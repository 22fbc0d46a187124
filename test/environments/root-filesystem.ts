import { readFileSync } from 'node:fs'
import type { TarMember } from '../support/tar.ts'

/** Statically linked: it needs nothing else to run. */
const BUSYBOX = '/usr/bin/busybox'
const COMMANDS = ['cat', 'chown', 'echo', 'env', 'id', 'ls', 'pwd', 'rm', 'sh', 'sleep', 'stat', 'touch']
const CAPABILITY_VERSION_2 = 0x02000000
const EFFECTIVE = 1

/** The smallest Linux that runs a command: one program under many names, root and a user `worker`, both without password. */
export const smallLinux = (): TarMember[] => [
  folder('bin'),
  folder('etc'),
  program('bin/busybox'),
  ...COMMANDS.map((name): TarMember => ({ name: `bin/${name}`, type: '2', link: 'busybox' })),
  { name: 'etc/passwd', content: 'root::0:0::/root:/bin/sh\nworker::1234:4321::/srv/worker:/bin/sh\n' },
  { name: 'etc/group', content: 'root:x:0:\nstaff:x:4321:\n' },
]

/** A busybox of its own under this name: set-id bits and capabilities are its alone. */
export const program = (name: string, fields: Partial<TarMember> = {}): TarMember => ({
  name,
  mode: 0o755,
  content: readFileSync(BUSYBOX),
  ...fields,
})

export const folder = (name: string, fields: Partial<TarMember> = {}): TarMember => ({
  name: `${name}/`,
  type: '5',
  mode: 0o755,
  ...fields,
})

/** Value of `security.capability`: this one permitted, and effective at once. */
export const fileCapability = (capability: number): Buffer => {
  const value = Buffer.alloc(20)
  value.writeUInt32LE(CAPABILITY_VERSION_2 | EFFECTIVE, 0)
  value.writeUInt32LE(1 << capability, 4)
  return value
}
