import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync } from 'node:fs'
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { agentConfig, vmmSpec, type AgentConfig, type VmmSpec } from '@pyro/protocol/guest'
import type { Workspace } from '@pyro/sdk'
import { z } from 'zod'
import { AgentLink } from '../../packages/engine/src/agent/agent-link.ts'
import { SEEN } from '../../packages/engine/src/drivers/microvm/machine-shape.ts'
import type { Bench } from '../row.ts'
import { sandboxOf } from '../sandbox.ts'
import { shell } from './program.ts'

type MachineFile = VmmSpec['files'][number]

const ACCESS = { read: constants.O_RDONLY, write: constants.O_WRONLY, both: constants.O_RDWR } as const
/** Descriptors below stand for the console and for what a parent keeps to itself (`vmm.json`). */
const BEFORE_FILES = ['ignore', 'ignore', 'inherit', 'ignore'] as const

const CONFIG_DISK = 'config.raw'
const configDisk = z.object({ agent: agentConfig })

/**
 * The machine of a workspace for the floors: the same qemu, called the same way, on copies of its disks and with nothing of
 * Pyro's around it. Its engine is whoever listens at `engineSocket`.
 */
export class MachineCopy {
  /** Holds all files that are the machine's own. */
  readonly folder: string
  /** What the machine's agent was told. */
  readonly agent: AgentConfig
  readonly engineSocket: string
  readonly controlSocket: string
  readonly #vmm: VmmSpec

  private constructor(parts: { folder: string; vmm: VmmSpec; agent: AgentConfig }) {
    this.agent = parts.agent
    this.engineSocket = join(parts.folder, basename(SEEN.socket))
    this.controlSocket = join(parts.folder, 'qmp.sock')
    this.folder = parts.folder
    this.#vmm = parts.vmm
  }

  /** Stops the workspace, so that its disk is at rest. The folder is made. */
  static async of(bench: Bench, workspace: Workspace, folder: string): Promise<MachineCopy> {
    const { folder: sandbox } = await sandboxOf(bench.pyro, workspace)
    const vmm = vmmSpec.parse(JSON.parse(await readFile(join(sandbox, 'vmm.json'), 'utf8')))
    await mkdir(folder)
    const config = join(folder, CONFIG_DISK)
    await copyFile(join(sandbox, CONFIG_DISK), config)
    await workspace.stop()
    const placeOf = ({ path, access }: MachineFile, at: number): string => {
      if (access === 'both') return join(folder, `disk${at}`)
      return path === join(sandbox, CONFIG_DISK) ? config : path
    }
    const files = vmm.files.map((file, at) => ({ ...file, path: placeOf(file, at) }))
    for (const [at, { path, access }] of vmm.files.entries())
      if (access === 'both') await copySparse(path, cleanCopyOf(join(folder, `disk${at}`)))
    const { agent } = configDisk.parse(JSON.parse((await readFile(config, 'utf8')).replaceAll('\0', '')))
    const copy = new MachineCopy({ folder, vmm: { ...vmm, files }, agent })
    await copy.renewDisks()
    return copy
  }

  /** Makes the disks what they were when the workspace stopped. */
  async renewDisks(): Promise<void> {
    for (const { path, access } of this.#vmm.files) if (access === 'both') await copySparse(cleanCopyOf(path), path)
  }

  /** Starts qemu. `initramfs` replaces the machine's own; `change` has the last word on the arguments. */
  start(options: { initramfs?: string; change?: (argv: readonly string[]) => readonly string[] } = {}): RunningMachine {
    const [program = '', ...args] = (options.change ?? same)(this.#argv(options.initramfs))
    const descriptors = this.#vmm.files.map(({ path, access, direct }) =>
      openSync(path, ACCESS[access] | (direct ? constants.O_DIRECT : 0)),
    )
    const child = spawn(program, args, { stdio: [...BEFORE_FILES, ...descriptors], env: {}, cwd: this.folder })
    for (const descriptor of descriptors) closeSync(descriptor)
    return new RunningMachine(child)
  }

  /** The engine's end of its link. */
  async listen(): Promise<AgentLink> {
    await rm(this.engineSocket, { force: true })
    return AgentLink.listen({
      ...this.agent,
      bootId: null,
      ownClock: false,
      socketPath: this.engineSocket,
      stagingPath: `${this.engineSocket}.new`,
      owner: 0,
    })
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }

  /** With paths of this host instead of those in the root that a sandbox's VMM has. */
  #argv(initramfs: string | undefined): string[] {
    const places = new Map(this.#vmm.mounts.map(({ source, target }) => [target, source]))
    places.set(SEEN.socket, this.engineSocket)
    if (initramfs !== undefined) places.set(SEEN.initramfs, initramfs)
    const ours = [...places].filter(([target]) => target.startsWith('/pyro/') && target !== SEEN.channel)
    return this.#vmm.argv.map((argument) => {
      if (argument.startsWith('socket,id=control,'))
        return `socket,id=control,path=${this.controlSocket},server=on,wait=off`
      return ours.reduce((text, [target, source]) => text.replace(target, source), argument)
    })
  }
}

export class RunningMachine implements AsyncDisposable {
  /** Settles when qemu is gone. */
  readonly ended: Promise<unknown>
  readonly #child: ChildProcess

  constructor(child: ChildProcess) {
    this.#child = child
    this.ended = once(child, 'exit')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.ended
  }
}

const same = (argv: readonly string[]): readonly string[] => argv

const cleanCopyOf = (disk: string): string => `${disk}.clean`

/** Written out: a disk that is read past the page cache would wait for that. */
const copySparse = (from: string, to: string): Promise<string> =>
  shell(`cp --reflink=auto --sparse=always '${from}' '${to}'; sync -d '${to}'`)
