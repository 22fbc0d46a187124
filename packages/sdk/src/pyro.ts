import type { CommandInput, InputOf, ResultOf } from '@pyro/protocol'
import { Client, type CallOptions, type ClientOptions } from './transport/client.ts'
import { Engine } from './handles/engine.ts'
import { Environments } from './handles/environments.ts'
import type { RunOptions } from './handles/run.ts'
import { Workspaces } from './handles/workspaces.ts'

export type ConnectOptions = ClientOptions & CallOptions

/** A connection to one engine; the entry to everything else. */
export class Pyro implements AsyncDisposable {
  readonly workspaces: Workspaces
  readonly environments: Environments
  readonly engine: Engine
  /** The calls beneath the handles. */
  readonly client: Client

  private constructor(client: Client) {
    this.client = client
    this.workspaces = new Workspaces(client)
    this.environments = new Environments(client)
    this.engine = new Engine(client)
  }

  /**
   * Connects to the engine of a home, starting it when it does not answer.
   *
   * @throws PyroError `engine.not-installed`, `engine.unreachable`, `host.needs-root`
   */
  static async connect(options: ConnectOptions = {}): Promise<Pyro> {
    const pyro = Pyro.open(options)
    await pyro.client.ensureEngine(options.signal)
    return pyro
  }

  /** The same without asking first: the engine is started by the first call that needs it. */
  static open(options: ClientOptions = {}): Pyro {
    return new Pyro(new Client(options))
  }

  /** Creates a workspace, runs one command in it and deletes it, unless `keep` is set. */
  async run(command: CommandInput, options: RunOptions = {}): Promise<ResultOf<'run'>> {
    const { runOnce } = await import('./handles/run.ts')
    return runOnce(this.client, command, options)
  }

  /** What works on this host, what is missing, and the command that provides it. */
  doctor({ signal, ...input }: CallOptions & InputOf<'doctor'> = {}): Promise<ResultOf<'doctor'>> {
    return this.client.call('doctor', input, { signal })
  }

  /**
   * Closes the connections of this object. The engine and every workspace go on; further calls are refused with `input.invalid`, those
   * under way end with `request.cancelled`.
   */
  close(): void {
    this.client.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }
}
