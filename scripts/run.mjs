// The entry of every npm script: sets up whatever the script needs (plain JavaScript, runs on the Node of a fresh machine),
// then runs it with Node 24. When everything is in place this costs well below a second.
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildAgents, findGo, staleAgents } from './setup/agent.mjs'
import { findProgram } from './setup/host.mjs'
import { bundledNodeIsLinked, installModules, linkBundledNode, modulesAreCurrent } from './setup/modules.mjs'
import { installPackages, missingPackages } from './setup/packages.mjs'
import { say, seconds, SetupError, spent } from './setup/report.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const REQUIRED_NODE = 24
/** How long a second set-up waits for the first. */
const LOCK_WAIT_S = 1800

/** @typedef {{ file: string | null, packages: 'none' | 'engine' | 'tests', agent: 'none' | 'host' | 'all', go?: true }} Command */

/** What each npm script runs, and what must be there first. @type {Record<string, Command>} */
const commands = {
  setup: { file: null, packages: 'tests', agent: 'host' },
  quickstart: { file: 'scripts/quickstart.ts', packages: 'engine', agent: 'host' },
  test: { file: 'scripts/test.ts', packages: 'tests', agent: 'host' },
  check: { file: 'scripts/check.ts', packages: 'none', agent: 'none', go: true },
  generate: { file: 'scripts/generate.ts', packages: 'none', agent: 'none' },
  bench: { file: 'bench/main.ts', packages: 'tests', agent: 'host' },
  smoke: { file: 'scripts/smoke.ts', packages: 'tests', agent: 'host' },
  soak: { file: 'scripts/soak.ts', packages: 'tests', agent: 'host' },
  'first-run': { file: 'scripts/first-run.ts', packages: 'tests', agent: 'host' },
  'dist-check': { file: 'scripts/dist-check.ts', packages: 'engine', agent: 'all' },
}

/** @param {Command} command */
function plan(command) {
  const packages = command.packages === 'none' ? [] : missingPackages({ tests: command.packages === 'tests' })
  const modules = !modulesAreCurrent(root)
  const linked = bundledNodeIsLinked(root)
  /** @type {import('./setup/agent.mjs').AgentArchitecture[]} */
  const architectures = command.agent === 'all' ? ['x64', 'arm64'] : [process.arch === 'arm64' ? 'arm64' : 'x64']
  const go = command.agent === 'none' && command.go !== true ? null : findGo()
  const agent =
    go === null || command.agent === 'none' ? null : { go: go.path, ...staleAgents(root, architectures, go.version) }
  const done = packages.length === 0 && !modules && linked && (agent === null || agent.stale.length === 0)
  return { packages, modules, agent, done }
}

/** @param {Command} command */
async function setUp(command) {
  const todo = plan(command)
  if (todo.packages.length > 0) await installPackages(todo.packages)
  if (todo.modules) await installModules(root)
  linkBundledNode(root)
  if (todo.agent !== null && todo.agent.stale.length > 0) await buildAgents(root, todo.agent)
  if (spent.totalMs === 0) return
  say(`ready in ${seconds(spent.totalMs)}, of which ${seconds(spent.downloadMs)} downloading`)
}

/**
 * Two set-ups at once would tear down each other's node_modules: the second waits for the first, then finds nothing to do. The
 * lock belongs to the open file, which `flock` shares with us; it ends with the descriptor.
 */
function lockSetUp() {
  const descriptor = openSync(join(root, '.setup.lock'), 'w')
  const result = spawnSync('flock', ['--wait', String(LOCK_WAIT_S), '3'], {
    stdio: ['ignore', 'inherit', 'inherit', descriptor],
  })
  if (result.status === 1) throw new SetupError('another set-up of this checkout is still running', { exitCode: 8 })
  // Not every system has flock(1): then the user keeps two set-ups apart.
  return descriptor
}

/** @param {string} bin */
function node24(bin) {
  const installed = join(bin, 'node')
  if (existsSync(installed)) return installed
  if (Number(process.versions.node.split('.')[0]) >= REQUIRED_NODE) return process.execPath
  throw new SetupError(`Node ${REQUIRED_NODE} or newer is needed; npm has none for ${process.platform} ${process.arch}`)
}

/** For the quickstart, which tells download time apart in its own total. */
function timings() {
  return {
    PYRO_SETUP_MS: String(Math.round(spent.totalMs)),
    PYRO_SETUP_DOWNLOAD_MS: String(Math.round(spent.downloadMs)),
  }
}

/**
 * @param {string} file
 * @param {string[]} args
 */
async function runWithNode24(file, args) {
  const bin = join(root, 'node_modules', '.bin')
  const go = findProgram('go', ['/usr/local/go/bin', '/usr/lib/go/bin'])
  const path = [bin, process.env.PATH ?? '', '/usr/sbin', '/sbin', ...(go === null ? [] : [dirname(go)])].join(
    delimiter,
  )
  const env = { ...process.env, PATH: path, ...timings() }
  const child = spawn(node24(bin), [join(root, file), ...args], { cwd: root, stdio: 'inherit', env })
  // The terminal sends Ctrl-C to the whole group: the child decides, we only wait for its answer.
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => child.kill(signal))
  }
  const end = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])))
  })
  process.exitCode = /** @type {number} */ (end)
}

async function main() {
  const [name = '', ...args] = process.argv.slice(2)
  const command = commands[name]
  if (command === undefined) {
    throw new SetupError(`no script named ${JSON.stringify(name)}: ${Object.keys(commands).join(', ')}`, {
      exitCode: 2,
    })
  }
  if (!plan(command).done) {
    const lock = lockSetUp()
    await setUp(command)
    closeSync(lock)
  }
  if (command.file !== null) await runWithNode24(command.file, args)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  say(error.message)
  if (error.hint !== null) say(error.hint)
  process.exitCode = error.exitCode
}
