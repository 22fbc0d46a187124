import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import { agentPath } from '@pyro/driver-testkit'
import type { Leak } from '@pyro/protocol'
import { isRunning, until, type World } from '../support/world.ts'

const run = promisify(execFile)
const LOOP_BYTES = 8 * 1024 * 1024

/** A workspace that no state knows. */
export const NOBODY = 'ws-nobody2nobod'
const SANDBOX = `${NOBODY}-g7`

export interface PlantedLeak extends AsyncDisposable {
  /** What the audit has to say of it, apart from the detail. */
  readonly found: readonly Omit<Leak, 'detail'>[]
  /** Looked at from outside. */
  readonly exists: () => boolean | Promise<boolean>
}

/** The folder of this one home below the runtime folder of its world. */
export const volatileFolder = ({ runtimeDir }: World): string => {
  const [name] = readdirSync(runtimeDir)
  if (name === undefined) throw new Error(`no engine has run in ${runtimeDir}`)
  return join(runtimeDir, name)
}

export type Plant = (world: World) => Promise<PlantedLeak>

/** Of every kind: the compiler refuses a hole. Disposing takes away what an audit without success leaves. */
export const PLANTS: Readonly<Record<Leak['kind'], Readonly<Record<string, Plant>>>> = {
  process: {
    'a helper whose engine is gone': async (world) => {
      const child = spawn(agentPath(), ['volumes'], {
        stdio: ['pipe', 'ignore', 'ignore'],
        env: { PYRO_HOME: world.home },
      })
      const pid = await started(child)
      return {
        found: [{ kind: 'process', id: `${pid}@${startTime(pid)}`, workspaceId: null }],
        exists: () => isRunning(pid),
        [Symbol.asyncDispose]: () => ended(child),
      }
    },

    'frozen in the control group of a sandbox that no record names': async (world) => {
      const group = join(pidsMount(), 'pyro', nameOf(volatileFolder(world)), SANDBOX)
      mkdirSync(group, { recursive: true })
      const child = spawn('sleep', ['600'], { stdio: 'ignore' })
      const pid = await started(child)
      writeFileSync(join(group, 'cgroup.procs'), String(pid))
      process.kill(pid, 'SIGSTOP')
      return {
        found: [
          { kind: 'process', id: `${pid}@${startTime(pid)}`, workspaceId: NOBODY },
          { kind: 'cgroup', id: group, workspaceId: NOBODY },
        ],
        exists: () => isRunning(pid) || existsSync(group),
        [Symbol.asyncDispose]: async () => {
          await ended(child)
          if (existsSync(group)) rmdirSync(group)
        },
      }
    },
  },

  mount: {
    'a filesystem in the folder of uploads': async (world) => {
      const target = join(world.home, 'tmp', 'environments')
      await run('mount', ['-t', 'tmpfs', 'planted', target])
      const exists = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${target} `)
      return {
        found: [{ kind: 'mount', id: target, workspaceId: null }],
        exists,
        [Symbol.asyncDispose]: async () => {
          if (exists()) await run('umount', [target])
        },
      }
    },
  },

  'loop-device': {
    'on a file of the home': (world) => plantLoop(world, { deleted: false }),

    'on a file that is gone': (world) => plantLoop(world, { deleted: true }),
  },

  cgroup: {
    'of a sandbox that no record names': async (world) => {
      const group = join(pidsMount(), 'pyro', nameOf(volatileFolder(world)), SANDBOX)
      mkdirSync(join(group, 'user'), { recursive: true })
      return {
        found: [{ kind: 'cgroup', id: group, workspaceId: NOBODY }],
        exists: () => existsSync(group),
        [Symbol.asyncDispose]: () => {
          if (existsSync(group)) for (const folder of [join(group, 'user'), group]) rmdirSync(folder)
          return Promise.resolve()
        },
      }
    },
  },

  socket: {
    'in the runtime folder': async (world) => {
      const path = join(volatileFolder(world), 'stray.sock')
      await plantSocket(path)
      return {
        found: [{ kind: 'socket', id: path, workspaceId: null }],
        exists: () => existsSync(path),
        [Symbol.asyncDispose]: () => Promise.resolve(rmSync(path, { force: true })),
      }
    },
  },

  folder: {
    'of a sandbox that no record names': (world) =>
      plantFolder(join(volatileFolder(world), 'sandboxes', SANDBOX), NOBODY),

    'in the runtime folder': (world) => plantFolder(join(volatileFolder(world), 'stray'), null),

    'of a pull that was cut off': (world) => plantFolder(join(world.home, 'tmp', 'environments', 'env-planted'), null),

    'of logs that no workspace has': (world) => plantFolder(join(world.home, 'commands', NOBODY), NOBODY),
  },

  volume: {
    'a disk that no workspace has': (world) => plantVolume(world, `${NOBODY}.g7`, NOBODY),

    'a momentary copy that nobody looks at': (world) => plantVolume(world, `${NOBODY}.t7`, NOBODY),

    'a half-made one': (world) => plantVolume(world, `.new-${NOBODY}.s7`, NOBODY),
  },

  record: {
    'of a sandbox without a workspace': (world) => {
      const spec = { sandboxId: SANDBOX, workspaceId: NOBODY, generation: 7, volume: { id: `${NOBODY}.g7` } }
      const record = JSON.stringify({ driver: 'fake', spec, details: {} })
      withState(world, (db) =>
        db
          .prepare("INSERT INTO sandboxes (id, workspace_id, generation, state, record) VALUES (?, ?, 7, 'running', ?)")
          .run(SANDBOX, NOBODY, record),
      )
      return Promise.resolve({
        found: [{ kind: 'record', id: `sandbox ${SANDBOX}`, workspaceId: NOBODY }],
        exists: () =>
          withState(world, (db) => db.prepare('SELECT 1 FROM sandboxes WHERE id = ?').get(SANDBOX)) !== undefined,
        [Symbol.asyncDispose]: () => {
          withState(world, (db) => db.prepare('DELETE FROM sandboxes WHERE id = ?').run(SANDBOX))
          return Promise.resolve()
        },
      })
    },
  },
}

/** The pids controller, or the one hierarchy of version 2. */
const pidsMount = (): string => (existsSync('/sys/fs/cgroup/pids') ? '/sys/fs/cgroup/pids' : '/sys/fs/cgroup')

export const plantVolume = async (world: World, name: string, workspaceId: string | null): Promise<PlantedLeak> => {
  const path = join(volatileFolder(world), 'volumes', name)
  await run('btrfs', ['subvolume', 'create', path])
  writeFileSync(join(path, 'file'), 'somebody wrote this')
  return {
    found: [{ kind: 'volume', id: name, workspaceId }],
    exists: () => existsSync(path),
    [Symbol.asyncDispose]: async () => {
      if (existsSync(path)) await run('btrfs', ['subvolume', 'delete', path])
    },
  }
}

export const withState = <T>(world: World, work: (db: DatabaseSync) => T): T => {
  const db = new DatabaseSync(join(world.home, 'state.db'))
  try {
    db.exec('PRAGMA busy_timeout = 5000')
    return work(db)
  } finally {
    db.close()
  }
}

const plantLoop = async (world: World, { deleted }: { readonly deleted: boolean }): Promise<PlantedLeak> => {
  const file = join(world.home, 'planted.img')
  writeFileSync(file, Buffer.alloc(LOOP_BYTES))
  const { stdout } = await run('losetup', ['--find', '--show', file])
  const device = stdout.trim()
  if (deleted) rmSync(file)
  const exists = async (): Promise<boolean> =>
    (await run('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'])).stdout.includes(file)
  return {
    found: [{ kind: 'loop-device', id: device, workspaceId: null }],
    exists,
    [Symbol.asyncDispose]: async () => {
      if (await exists()) await run('losetup', ['--detach', device])
      rmSync(file, { force: true })
    },
  }
}

const plantFolder = (path: string, workspaceId: string | null): Promise<PlantedLeak> => {
  mkdirSync(join(path, 'deep'), { recursive: true })
  writeFileSync(join(path, 'deep', 'file'), 'text')
  return Promise.resolve({
    found: [{ kind: 'folder', id: path, workspaceId }],
    exists: () => existsSync(path),
    [Symbol.asyncDispose]: () => Promise.resolve(rmSync(path, { recursive: true, force: true })),
  })
}

/** A socket that nobody listens on: the second name of one whose listener has left. */
const plantSocket = async (path: string): Promise<void> => {
  const server = createServer()
  await new Promise<void>((resolve) => {
    server.listen(`${path}.first`, resolve)
  })
  linkSync(`${path}.first`, path)
  await new Promise((resolve) => server.close(resolve))
}

const started = async (child: ChildProcess): Promise<number> => {
  await new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  return child.pid ?? 0
}

const ended = async (child: ChildProcess): Promise<void> => {
  child.kill('SIGKILL')
  await until(() => child.exitCode !== null || child.signalCode !== null, 'the end of a planted process')
}

/** Field 22 of /proc/PID/stat. */
const startTime = (pid: number): string => {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

const nameOf = (path: string): string => path.split('/').at(-1) ?? ''
