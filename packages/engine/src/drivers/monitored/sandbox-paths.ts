import { join } from 'node:path'

/** Every file of one sandbox stands below one folder of the runtime folder; its name is the sandbox's. */
export interface SandboxPaths {
  readonly folder: string
  /** Bound into the sandbox, read-only. Holds the socket alone. */
  readonly channel: string
  readonly socket: string
  /** Where the socket is made before it takes its place. */
  readonly stagingSocket: string
  /** stdin of the agent: holds the token. */
  readonly agentConfig: string
  /** The runtime's `config.json`; the folder is the bundle. */
  readonly bundleConfig: string
  readonly monitorSpec: string
  readonly status: string
  readonly exit: string
  readonly log: string
  readonly runtimeLog: string
  /** Where the runtime sees the disk when its ids are mapped: a mount in the runtime's namespace alone. */
  readonly root: string
  /** Where the runtime then sees the agent binary. */
  readonly agent: string
  /** Link to the user namespace, when it is made for the runtime. */
  readonly userNamespace: string
  /** State folder of the runtime, of this sandbox alone. */
  readonly runtimeState: string
}

const FOLDER = 'sandboxes'

export const sandboxesFolder = (runtimeDir: string): string => join(runtimeDir, FOLDER)

export const sandboxPaths = (runtimeDir: string, sandboxId: string): SandboxPaths => {
  const folder = join(sandboxesFolder(runtimeDir), sandboxId)
  return {
    folder,
    channel: join(folder, 'channel'),
    socket: join(folder, 'channel', 'engine.sock'),
    stagingSocket: join(folder, 'engine.sock'),
    agentConfig: join(folder, 'agent.json'),
    bundleConfig: join(folder, 'config.json'),
    monitorSpec: join(folder, 'monitor.json'),
    status: join(folder, 'status.json'),
    exit: join(folder, 'exit.json'),
    log: join(folder, 'sandbox.log'),
    runtimeLog: join(folder, 'runtime.log'),
    root: join(folder, 'root'),
    agent: join(folder, 'agent'),
    userNamespace: join(folder, 'user-namespace'),
    runtimeState: join(folder, 'runtime'),
  }
}

/** Where things of ours stand inside a sandbox. */
export const INSIDE = {
  agent: '/run/pyro/agent',
  channel: '/run/pyro/channel',
  socket: '/run/pyro/channel/engine.sock',
} as const
