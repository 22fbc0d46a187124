import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { isPyroError, type ErrorBody, type ErrorCode } from '@pyro/protocol'
import { socketOfHome } from '@pyro/sdk'
import { CLI, ENVIRONMENT, until, type World } from '../support/world.ts'
import { tarOf } from '../support/tar.ts'
import { McpHost } from '../mcp/mcp-host.ts'

/** What a surface said. `exit` is null where it was not the command line. */
export interface Said extends ErrorBody {
  readonly exit: number | null
}

/** For a host on which no guest runs on the processor itself. */
export const NO_KVM = '/dev/no-kvm'

/** A workspace that the cases share. None of them may change it. */
export const SHARED = 'shared'
/** Programs of the host but these, for an engine that is to miss some. */
export const withoutPrograms = (world: World, missing: readonly string[]): string => {
  const folder = join(world.folder, 'programs')
  mkdirSync(folder, { recursive: true })
  for (const bin of ['/usr/sbin', '/usr/bin']) {
    for (const name of readdirSync(bin)) {
      const link = join(folder, name)
      rmSync(link, { force: true })
      if (!missing.includes(name)) symlinkSync(join(bin, name), link)
    }
  }
  return folder
}

/** What `--json` said, and that nothing else did. */
export const said = async (
  world: World,
  args: readonly string[],
  options: Parameters<World['cli']>[1] = {},
): Promise<Said> => {
  const { code, stdout, stderr } = await world.cli(['--json', ...args], options)
  if (stderr !== '') throw new Error(`--json talks: ${stderr}`)
  const { error } = JSON.parse(Buffer.from(stdout, 'latin1').toString()) as { error?: ErrorBody }
  if (error === undefined) throw new Error(`pyro ${args.join(' ')} did not fail: ${stdout}`)
  return { ...error, exit: code }
}

const thrown = async (work: Promise<unknown>): Promise<Said> => {
  try {
    await work
  } catch (error) {
    if (isPyroError(error)) return { ...error.toBody(), exit: null }
    throw error
  }
  throw new Error('nothing was thrown')
}

/** Asks the engine's socket as a client of another version. */
const asVersion = async (world: World, version: string): Promise<Said> => {
  await world.pyro.engine.start()
  const call = request({
    socketPath: socketOfHome(world.home),
    path: '/v1/workspaces',
    headers: { 'pyro-version': version },
  }).end()
  const [response] = (await once(call, 'response')) as [AsyncIterable<Buffer>]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const { error } = JSON.parse(Buffer.concat(chunks).toString()) as { error: ErrorBody }
  return { ...error, exit: null }
}

/** Sends Ctrl-C once the command does what takes long. */
const interrupted = async (
  world: World,
  args: readonly string[],
  isUnderWay: () => Promise<boolean>,
): Promise<Said> => {
  const child = spawn(process.execPath, [CLI, ...args, '--json'], { env: { ...process.env, ...world.env } })
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const closed = once(child, 'close') as Promise<[number | null]>
  await until(isUnderWay, `pyro ${args.join(' ')} to be under way`)
  child.kill('SIGINT')
  const [exit] = await closed
  return { ...(JSON.parse(stdout) as { error: ErrorBody }).error, exit }
}

const phaseOf = async (world: World, name: string): Promise<string | undefined> =>
  (await world.pyro.workspaces.list()).find((record) => record.name === name)?.phase

/** A workspace of its own for a case that breaks it; deleted afterwards. */
const withOwn = async <T>(world: World, work: (name: string, id: string) => Promise<T>): Promise<T> => {
  await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc' })
  return await work(ws.name, ws.id)
}

/** Removes the disk from outside, as nobody should. */
const loseDisk = async (world: World, name: string, id: string): Promise<void> => {
  await (await world.pyro.workspaces.get(name)).stop()
  execFileSync('btrfs', ['subvolume', 'delete', runtimePath(world, join('volumes', `${id}.g1`))])
}

/** An archive in the world's folder, cut at `bytes`. */
const archive = (world: World, names: readonly string[], bytes?: number): string => {
  const path = join(world.folder, 'archive.tar')
  writeFileSync(path, tarOf(names.map((name) => ({ name, content: 'x' }))).subarray(0, bytes))
  return path
}

/** Not root, but able to read what root installed, wherever that is. */
export const asNobody = async (world: World, args: readonly string[]): Promise<Said> => {
  const capability = ['--inh-caps', '+dac_read_search', '--ambient-caps', '+dac_read_search']
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups', ...capability]
  const child = spawn('setpriv', [...user, process.execPath, CLI, ...args, '--json'], {
    env: { ...process.env, ...world.env },
  })
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const [exit] = (await once(child, 'close')) as [number | null]
  return { ...(JSON.parse(stdout) as { error: ErrorBody }).error, exit }
}

/** The one path below the runtime folder of the engine that ends so. */
const runtimePath = (world: World, ending: string): string => {
  const [hash = ''] = readdirSync(world.runtimeDir)
  return join(world.runtimeDir, hash, ending)
}

/** A case, and the variables that its engine needs beside those of the world. */
interface Provocation {
  readonly engine?: Readonly<Record<string, string>> | ((world: World) => Readonly<Record<string, string>>)
  readonly provoke: (world: World) => Promise<Said>
}

const NOTHING = 'nosuch'

/** For each code of the catalogue how a user meets it, through a real engine. The compiler demands one for each. */
export const PROVOCATIONS: Readonly<Record<ErrorCode, Provocation>> = {
  'workspace.not-found': { provoke: (world) => said(world, ['workspace', 'status', NOTHING]) },
  'workspace.name-taken': {
    provoke: (world) => said(world, ['workspace', 'create', ENVIRONMENT, '--name', SHARED]),
  },
  'workspace.busy': {
    engine: { PYRO_FAULT: 'workspace.snapshot.create/freeze:hang', PYRO_LIMITS: '{"phaseWaitMs":300}' },
    provoke: (world) =>
      withOwn(world, async (name) => {
        const cancel = new AbortController()
        const ws = await world.pyro.workspaces.get(name)
        const held = ws.snapshots.create('held', { signal: cancel.signal })
        held.catch(() => undefined)
        const busy = await said(world, ['workspace', 'update', name, '--label', 'a=b'])
        cancel.abort()
        await Promise.allSettled([held])
        return busy
      }),
  },
  'workspace.wrong-phase': {
    provoke: (world) =>
      withOwn(world, async (name, id) => {
        await loseDisk(world, name, id)
        await said(world, ['workspace', 'start', name])
        return said(world, ['workspace', 'exec', name, '--', 'true'])
      }),
  },
  'workspace.lost': {
    provoke: (world) =>
      withOwn(world, async (name, id) => {
        await loseDisk(world, name, id)
        return said(world, ['workspace', 'start', name])
      }),
  },
  'workspace.start-failed': {
    provoke: (world) =>
      withOwn(world, async (name, id) => {
        const ws = await world.pyro.workspaces.get(name)
        await ws.stop()
        const proc = runtimePath(world, join('volumes', `${id}.g1`, 'proc'))
        rmSync(proc, { recursive: true })
        writeFileSync(proc, 'no folder to mount anything on')
        return said(world, ['workspace', 'start', name])
      }),
  },
  'sandbox.unreachable': {
    provoke: (world) =>
      withOwn(world, async (name, id) => {
        const init = Number(readFileSync(runtimePath(world, join('sandboxes', `${id}-g1`, 'init.pid')), 'utf8'))
        process.kill(init, 'SIGSTOP')
        return said(world, ['workspace', 'file', 'read', name, '/etc/hostname', '--root', '/'])
      }),
  },
  'snapshot.not-found': { provoke: (world) => said(world, ['workspace', 'reset', SHARED, '--snapshot', NOTHING]) },
  'snapshot.exists': {
    provoke: (world) =>
      withOwn(world, async (name) => {
        await world.cli(['workspace', 'snapshot', 'create', name, 'good'])
        return said(world, ['workspace', 'snapshot', 'create', name, 'good'])
      }),
  },
  'snapshot.reserved': { provoke: (world) => said(world, ['workspace', 'snapshot', 'delete', SHARED, 'baseline']) },
  'environment.not-found': { provoke: (world) => said(world, ['env', 'inspect', NOTHING]) },
  'environment.in-use': { provoke: (world) => said(world, ['env', 'remove', ENVIRONMENT]) },
  'environment.pull-failed': {
    engine: (world) => ({
      PYRO_DEBIAN_MIRROR: 'http://127.0.0.1:9/debian',
      PYRO_ENVIRONMENT_CACHE: join(world.folder, 'empty-cache'),
    }),
    provoke: (world) => said(world, ['env', 'pull', 'debian:12-build']),
  },
  'environment.invalid': { provoke: (world) => said(world, ['env', 'import', 'mine', world.folder]) },
  'command.not-found': {
    provoke: (world) => said(world, ['workspace', 'command', 'kill', SHARED, 'cmd-aaaaaaaaaaaa']),
  },
  'command.interrupted': {
    provoke: (world) =>
      withOwn(world, async (name) => {
        const ws = await world.pyro.workspaces.get(name)
        const waiting = said(world, ['workspace', 'exec', name, '--', 'sleep', '600'])
        await until(async () => (await ws.status()).lastCommand?.running === true, 'the command to run')
        await ws.reset()
        return waiting
      }),
  },
  'command.failed': {
    provoke: async (world) => thrown((await world.pyro.workspaces.get(SHARED)).exec('exit 3', { check: true })),
  },
  'path.not-found': { provoke: (world) => said(world, ['workspace', 'file', 'read', SHARED, NOTHING]) },
  'path.exists': {
    provoke: (world) => said(world, ['workspace', 'export', SHARED, '/etc/hostname', '--output', world.folder]),
  },
  'path.outside-root': { provoke: (world) => said(world, ['workspace', 'file', 'read', SHARED, '../etc/passwd']) },
  'path.not-a-file': { provoke: (world) => said(world, ['workspace', 'file', 'read', SHARED, '.']) },
  'path.unreadable': {
    // Root may read everything but what the kernel itself does not let out.
    provoke: (world) => said(world, ['workspace', 'file', 'write', SHARED, 'x', '--file', '/proc/self/mem']),
  },
  'path.unwritable': {
    provoke: (world) => said(world, ['workspace', 'export', SHARED, '/etc/hostname', '--output', '/proc/pyro-export']),
  },
  'path.text-mismatch': {
    provoke: (world) =>
      said(world, ['workspace', 'file', 'write', SHARED, 'notes.txt', '--old-text', 'three', '--text', '3']),
  },
  'archive.unsafe-entry': {
    provoke: (world) => said(world, ['workspace', 'sync', 'push', SHARED, archive(world, ['../evil'])]),
  },
  'archive.too-large': {
    engine: { PYRO_LIMITS: '{"archiveEntries":2}' },
    provoke: (world) => said(world, ['workspace', 'sync', 'push', SHARED, archive(world, ['a', 'b', 'c'])]),
  },
  'archive.truncated': {
    provoke: (world) => said(world, ['workspace', 'sync', 'push', SHARED, archive(world, ['a'], 600)]),
  },
  'input.invalid': { provoke: (world) => said(world, ['workspace', 'create', ENVIRONMENT, '--name', 'not a name']) },
  'limit.exceeded': {
    engine: { PYRO_LIMITS: '{"snapshotsPerWorkspace":1}' },
    provoke: (world) =>
      withOwn(world, async (name) => {
        await world.cli(['workspace', 'snapshot', 'create', name, 'one'])
        return said(world, ['workspace', 'snapshot', 'create', name, 'two'])
      }),
  },
  'disk.full': {
    provoke: async (world) => {
      const options = { environment: ENVIRONMENT, driver: 'runc', diskMib: 64 } as const
      await using ws = await world.pyro.workspaces.create(options)
      await ws.exec('cat /dev/zero > full')
      return await said(world, ['workspace', 'file', 'write', ws.name, 'x'], {
        input: Buffer.alloc(8 * 1024 * 1024, 'x'),
      })
    },
  },
  'driver.unavailable': {
    engine: (world) => ({ PATH: withoutPrograms(world, ['runc']) }),
    provoke: (world) => said(world, ['workspace', 'create', ENVIRONMENT, '--driver', 'runc']),
  },
  'isolation.unavailable': {
    engine: (world) => ({ PATH: withoutPrograms(world, ['runsc']), PYRO_KVM_DEVICE: NO_KVM }),
    provoke: (world) => said(world, ['workspace', 'create', ENVIRONMENT]),
  },
  'host.needs-root': { provoke: (world) => asNobody(world, ['workspace', 'list']) },
  'host.missing-tool': {
    engine: (world) => ({ PYRO_AGENT: join(world.folder, 'no-agent') }),
    provoke: (world) => said(world, ['workspace', 'list']),
  },
  'host-path.not-allowed': {
    provoke: async (world) => {
      const command: [string, ...string[]] = [process.execPath, CLI, 'mcp', 'serve', '--project-path', world.folder]
      await using host = await McpHost.start({ env: { ...process.env, ...world.env }, command })
      const input = { workspace: SHARED, path: '/etc/hostname', output: '../outside' }
      const [what = '', hint] = (await host.call('workspace_export', input)).text.split('\nhint: ')
      const [code = '', message = ''] = what.split(': ')
      return { code: code as ErrorCode, message, hint: hint ?? null, data: null, exit: null }
    },
  },
  'engine.unreachable': {
    engine: { PYRO_ENGINE: '/bin/false' },
    provoke: (world) => said(world, ['workspace', 'list']),
  },
  'engine.not-installed': {
    engine: { PYRO_ENGINE: '/nowhere/engine' },
    provoke: (world) => said(world, ['workspace', 'list']),
  },
  'engine.version-mismatch': { provoke: (world) => asVersion(world, '0.0.1') },
  'state.too-new': {
    provoke: async (world) => {
      const home = join(world.folder, 'newer')
      mkdirSync(home)
      const database = new DatabaseSync(join(home, 'state.db'))
      database.exec('PRAGMA user_version = 999')
      database.close()
      return said(world, ['workspace', 'list'], { env: { PYRO_HOME: home } })
    },
  },
  'state.lost': {
    provoke: async (world) => {
      await world.pyro.engine.start()
      const elsewhere = `${world.home}-moved`
      renameSync(world.home, elsewhere)
      try {
        return await said(world, ['workspace', 'update', SHARED, '--label', 'a=b'])
      } finally {
        renameSync(elsewhere, world.home)
      }
    },
  },
  'request.cancelled': {
    engine: { PYRO_FAULT: 'workspace.create/populate:hang' },
    provoke: async (world) => {
      // Started by two at once, the loser may outlive the winner, and take over with this fault.
      await world.pyro.engine.start()
      return interrupted(
        world,
        ['workspace', 'create', ENVIRONMENT, '--name', 'slow', '--driver', 'runc'],
        async () => {
          return (await phaseOf(world, 'slow')) === 'creating'
        },
      )
    },
  },
  'request.timed-out': {
    provoke: (world) =>
      withOwn(world, async (name) => {
        const ws = await world.pyro.workspaces.get(name)
        const { commandId } = await ws.exec(['sleep', '600'], { detach: true })
        return said(world, ['workspace', 'command', 'wait', name, commandId, '--timeout', '50ms'])
      }),
  },
  internal: {
    engine: { PYRO_FAULT: 'workspace.snapshot.create/freeze:fail' },
    provoke: (world) => said(world, ['workspace', 'snapshot', 'create', SHARED, 'never']),
  },
}
