/** The engine as a program: `main.ts` starts it for `PYRO_HOME`; `--list-steps` prints what can be interrupted where. */
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PyroError } from '@pyro/protocol'
import { Calls } from './daemon/calls.ts'
import type { Engine } from './daemon/engine.ts'
import { hostFailure } from './daemon/host-failure.ts'
import { EngineServer } from './daemon/server.ts'
import { removeMomentaryVolumes } from './diff/frozen.ts'
import { openDiskStore } from './disk/open-disk-store.ts'
import { createDrivers } from './drivers/index.ts'
import { Environments } from './environment/environments.ts'
import { packageFiles } from './environment/package-files.ts'
import { configFrom, defaultHome, logLevel, type EngineConfig } from './lib/config.ts'
import { parseFault } from './lib/fault.ts'
import { createLog, errorFields, type Log } from './lib/log.ts'
import { COMMIT_STEP } from './lib/steps.ts'
import { sleep } from './lib/wait.ts'
import { OfflineAgent } from './offline/offline-agent.ts'
import { hostRoles } from './offline/roles.ts'
import { completePath } from './process/find-program.ts'
import { fillHoles, reserveSpace } from './process/reserve-space.ts'
import { HomeIdentity } from './store/home-identity.ts'
import { lockHome } from './store/lock.ts'
import { closeToOthers } from './store/private-file.ts'
import { linkSocket, socketElsewhere } from './store/socket-link.ts'
import { Store } from './store/store.ts'
import { Admission } from './workspace/admission.ts'
import { adoptAll } from './workspace/adoption.ts'
import { DriverChoice } from './workspace/driver-choice.ts'
import { Releaser } from './workspace/releaser.ts'
import type { Services } from './workspace/services.ts'
import { STEP_LISTS } from './workspace/step-lists.ts'
import { VolumePins } from './workspace/volume-pins.ts'
import { commandLogFolder } from './workspace/workspace.ts'
import { Workspaces } from './workspace/workspaces.ts'

/** What is under way may end by itself when the engine is asked to leave; the next engine takes over the rest. */
const LEAVE_GRACE_MS = 5_000
const LEAVE_POLL_MS = 10
/** A log beyond this is set aside at the next start, once. */
const LOG_LIMIT_BYTES = 16 * 1024 * 1024
/** SQLite opens no file with a path of 512 bytes or more, and has files beside its own. */
const HOME_PATH_BYTES = 480
const UPKEEP_MS = 10 * 60_000
/** What of a home holds data of users and is nobody else's way to anything, whatever the mode of a home that existed. */
const PRIVATE = ['commands', 'environments', 'logs', 'pool.btrfs', 'tmp'] as const
/** How soon after a full host has room again the ends of commands are written down. */
const END_RETRY_MS = 1_000
const SOCKET_LOOK_MS = 1_000

const versionOf = (): string => {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

const agentBinary = (): string => {
  const installed = fileURLToPath(new URL(`../agent/linux-${process.arch}/pyro-agent`, import.meta.url))
  const path = process.env['PYRO_AGENT'] ?? installed
  if (existsSync(path)) return path
  throw new PyroError('host.missing-tool', `the agent ${path} is not there; nothing was changed`, {
    hint: 'npm run setup builds it in a checkout; a published @pyro/engine brings it',
  })
}

const refuseUser = (): void => {
  if (process.getuid?.() === 0) return
  throw new PyroError('host.needs-root', 'the engine needs root on this host; nothing was changed', {
    hint: 'start it with sudo',
  })
}

const homeNamed = (): string => resolve(defaultHome(process.env, process.getuid?.() ?? 0))

const openHome = (): EngineConfig => {
  const named = homeNamed()
  mkdirSync(named, { recursive: true, mode: 0o700 })
  const home = realpathSync(named)
  const bytes = Buffer.byteLength(home)
  if (bytes > HOME_PATH_BYTES) {
    throw new PyroError(
      'input.invalid',
      `the path of the home has ${bytes} bytes, at most ${HOME_PATH_BYTES}: ${home}`,
      {
        hint: 'name a shorter one with PYRO_HOME',
        data: { bytes, max: HOME_PATH_BYTES },
      },
    )
  }
  const config = configFrom(process.env, home)
  for (const name of ['commands', 'logs']) mkdirSync(join(config.home, name), { recursive: true, mode: 0o700 })
  for (const name of PRIVATE) closeToOthers(join(config.home, name))
  return config
}

/** Whoever started us has opened the file already: this start still writes to the old one. */
const setLogAside = (home: string): void => {
  const path = join(home, 'logs', 'engine.log')
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT_BYTES) renameSync(path, `${path}.1`)
}

/** The first id outside of sandboxes is chosen once: trees on disk carry it. */
const settleIdBase = (store: Store, config: EngineConfig): EngineConfig => {
  const chosen = store.meta('idBase')
  if (chosen !== null) return { ...config, idBase: Number(chosen) }
  store.setMeta('idBase', String(config.idBase))
  return config
}

const pruneRequests = (store: Store, log: Log): void => {
  try {
    store.requests.prune(Date.now())
  } catch (error) {
    log.warn(errorFields(error), 'answered requests were not pruned')
  }
}

/** On a full host, too, it can be written down what became of what is there. */
const reserveForState = async ({ home, stateReserveBytes }: EngineConfig, log: Log): Promise<void> => {
  const reserve = (path: string): Promise<void> => reserveSpace(path, stateReserveBytes)
  const files: [string, (path: string) => Promise<void>][] = [['state.db-shm', fillHoles]]
  if (stateReserveBytes > 0) files.push(['state.db', reserve], ['state.db-wal', reserve])
  for (const [file, allocate] of files) {
    try {
      await allocate(join(home, file))
    } catch (error) {
      log.warn({ file, ...errorFields(error) }, 'the state has no space of its own')
    }
  }
}

/** Whoever started us would wait in vain for another engine's socket. */
const refuseElsewhere = async (home: string, socket: string): Promise<void> => {
  const elsewhere = await socketElsewhere(home, socket)
  if (elsewhere === null) return
  const variable = `PYRO_RUNTIME_DIR=${dirname(dirname(elsewhere))}`
  const message = `the engine of ${home} listens on ${elsewhere}, not on ${socket}; nothing was started`
  throw new PyroError('engine.unreachable', message, {
    hint: `it was started with ${variable}: use that, or end it first: ${variable} pyro daemon stop`,
    data: { socket, elsewhere },
  })
}

const tellSocket = (home: string, socket: string, log: Log): void => {
  try {
    linkSocket(home, socket)
  } catch (error) {
    log.warn(errorFields(error), 'the home has no link to the socket')
  }
}

const start = async (log: Log): Promise<void> => {
  refuseUser()
  process.env['PATH'] = completePath(process.env['PATH'])
  log.level = logLevel(process.env)
  const opened = openHome()
  const lock = lockHome(join(opened.home, 'engine.lock'))
  const socket = join(opened.runtimeDir, 'engine.sock')
  if (lock === null) {
    await refuseElsewhere(opened.home, socket)
    log.info({ home: opened.home }, 'another engine has this home')
    return
  }
  setLogAside(opened.home)
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => lock.release())
  tellSocket(opened.home, socket, log)
  const store = Store.open(join(opened.home, 'state.db'))
  cleanup.defer(() => store.close())
  const home = HomeIdentity.of(opened.home)
  const config = settleIdBase(store, opened)
  const agentPath = agentBinary()
  const disks = cleanup.use(await openDiskStore(config, { agentPath }))
  await removeMomentaryVolumes(disks)
  const host = { agentPath, idBase: config.idBase }
  const environments = await Environments.open({
    ...config,
    disks,
    host,
    usedBy: (digest) => store.workspaces.all().flatMap((row) => (row.environment.digest === digest ? [row.name] : [])),
  })
  const driverSet = createDrivers({ config, disks, agentBinary: agentPath, packageFiles: packageFiles(config), log })
  try {
    await driverSet.tidy()
  } catch (error) {
    log.warn(errorFields(error), 'what was left half-made was not removed')
  }
  const drivers = new DriverChoice(driverSet)
  const pins = new VolumePins()
  const releaser = new Releaser({ store, drivers, pins, logFolder: commandLogFolder(config.home), log })
  const services: Services = {
    config,
    store,
    drivers,
    environments,
    images: host,
    offline: new OfflineAgent(hostRoles(host)),
    admission: new Admission(),
    pins,
    releaser,
    fault: parseFault(config.fault),
    log,
  }
  const workspaces = new Workspaces(services)
  cleanup.defer(() => workspaces.close())
  const leaving = Promise.withResolvers<void>()
  const engine: Engine = {
    version: versionOf(),
    socket,
    agentPath,
    home,
    services,
    workspaces,
    calls: new Calls(store, log),
    starts: new Map(),
    adopted: adoptAll(services, workspaces),
    leave: () => leaving.resolve(),
  }
  const keepUp = (): void => {
    pruneRequests(store, log)
    void reserveForState(config, log)
  }
  keepUp()
  const upkeep = setInterval(keepUp, UPKEEP_MS)
  cleanup.defer(() => clearInterval(upkeep))
  const writing = setInterval(() => store.commands.writeEnds(), END_RETRY_MS)
  cleanup.defer(() => clearInterval(writing))
  const server = await EngineServer.listen(engine)
  const looking = setInterval(() => leaveWithoutSocket(engine), SOCKET_LOOK_MS)
  cleanup.defer(() => clearInterval(looking))
  log.info({ version: engine.version, socket: engine.socket, home: config.home, pid: process.pid }, 'ready')
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, engine.leave)
  await leaving.promise
  log.info({ sandboxes: workspaces.all().filter(({ sandbox }) => sandbox !== null).length }, 'leaving')
  await letGo(engine, server)
}

/** Sandboxes and their commands live on; whoever waits for one finds it again at the next engine. */
const letGo = async (engine: Engine, server: EngineServer): Promise<void> => {
  const all = engine.workspaces.all()
  // Before the commands are let go: whoever follows one must not come back to this engine, which no longer knows it.
  server.leave()
  for (const { commands } of all) commands.releaseAll()
  const until = Date.now() + LEAVE_GRACE_MS
  while (engine.calls.count > 0 && Date.now() < until) await sleep(LEAVE_POLL_MS)
  await server.close(LEAVE_GRACE_MS)
  await Promise.race([engine.services.releaser.idle(), sleep(LEAVE_GRACE_MS)])
  await Promise.all(all.map(async ({ sandbox }) => sandbox?.release()))
}

/** Nobody reaches an engine whose socket was removed. The next one makes another, and takes over everything. */
const leaveWithoutSocket = ({ socket, services, leave }: Engine): void => {
  if (existsSync(socket)) return
  services.log.warn({ socket }, 'the socket was removed')
  leave()
}

const listSteps = (): void => {
  for (const { operation, steps } of STEP_LISTS) {
    for (const { name } of [...steps, { name: COMMIT_STEP }]) process.stdout.write(`${operation}/${name}\n`)
  }
}

process.title = 'pyro-engine'
const log = createLog('info')
// A defect of one operation must not end all workspaces' engine.
process.on('unhandledRejection', (error) => log.error(errorFields(error), 'a rejection that nobody handled'))
if (process.argv.includes('--list-steps')) listSteps()
else {
  try {
    await start(log)
    process.exit(0)
  } catch (cause) {
    const error = cause instanceof PyroError ? cause : (hostFailure(cause, homeNamed()) ?? cause)
    log.fatal(
      { ...errorFields(error), ...(error instanceof PyroError ? { hint: error.hint } : {}) },
      'the engine ended',
    )
    process.exit(1)
  }
}
