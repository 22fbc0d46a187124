import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { program, shell } from './program.ts'

/**
 * The floor below create and exec: the OCI runtime's own command line on the same tree, with the namespaces every sandbox of
 * Pyro has and nothing else of ours.
 */
export class RuntimeFloor {
  readonly #runtime: string
  readonly #root: string
  readonly #bundle: string

  private constructor(runtime: string, root: string, bundle: string) {
    this.#runtime = runtime
    this.#root = root
    this.#bundle = bundle
  }

  /** The runtime's own command line on a sandbox of Pyro's, whose state folder of the runtime that is. */
  static inSandbox(runtime: string, root: string): Pick<RuntimeFloor, 'pipeInto'> {
    return new RuntimeFloor(runtime, root, '')
  }

  static async prepare(options: {
    runtime: string
    tree: string
    folder: string
    idBase: number
  }): Promise<RuntimeFloor> {
    const floor = new RuntimeFloor(options.runtime, join(options.folder, 'state'), join(options.folder, 'bundle'))
    await mkdir(floor.#bundle, { recursive: true })
    const mapping = [{ containerID: 0, hostID: options.idBase, size: 65_536 }]
    const capabilities = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_SETUID', 'CAP_SETGID', 'CAP_KILL']
    const config = {
      ociVersion: '1.0.2',
      process: {
        terminal: false,
        user: { uid: 0, gid: 0 },
        args: ['sleep', '1000000'],
        env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        cwd: '/',
        capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      },
      root: { path: options.tree, readonly: false },
      hostname: 'floor',
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      ],
      linux: {
        uidMappings: mapping,
        gidMappings: mapping,
        namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'user'].map((type) => ({ type })),
      },
    }
    await writeFile(join(floor.#bundle, 'config.json'), JSON.stringify(config))
    return floor
  }

  #flags(): string[] {
    return this.#runtime === 'runsc'
      ? ['--root', this.#root, '--network=none', '--ignore-cgroups', '--platform=systrap']
      : ['--root', this.#root]
  }

  #line(...args: string[]): string {
    return [this.#runtime, ...this.#flags(), ...args].map((word) => `'${word}'`).join(' ')
  }

  /** Create, start and one exec of `true`. */
  async createStartExec(id: string): Promise<void> {
    await this.start(id)
    await program(this.#runtime, [...this.#flags(), 'exec', id, 'true'])
  }

  async start(id: string): Promise<void> {
    await shell(
      `${this.#line('create', '--bundle', this.#bundle, id)} </dev/null >/dev/null 2>&1; ${this.#line('start', id)}`,
    )
  }

  /** A host pipeline that ends in a command inside. */
  async pipeInto(id: string, source: string, args: readonly string[]): Promise<void> {
    await shell(`set -o pipefail; ${source} | ${this.#line('exec', id, ...args)}`)
  }

  async remove(id: string): Promise<void> {
    await shell(
      `${this.#line('kill', id, 'KILL')} >/dev/null 2>&1 || true; ${this.#line('delete', '--force', id)} >/dev/null 2>&1 || true`,
    )
  }

  async dispose(): Promise<void> {
    await rm(this.#root, { recursive: true, force: true })
    await rm(this.#bundle, { recursive: true, force: true })
  }
}
