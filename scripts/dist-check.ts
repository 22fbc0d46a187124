// `npm run dist-check`: packs what is published, installs it into an empty folder, and runs the story from there: nothing of the
// checkout can help it.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { resolveHome, socketOfHome } from '@pyro/sdk'
import { HostRun } from '../test/support/host-run.ts'
import { packAll, type Tarball } from './pack/pack.ts'

const root = join(import.meta.dirname, '..')
const STEP_DEADLINE_MS = 15 * 60_000
/** ELF machine numbers, at byte 18. */
const ELF_MACHINES = { 'linux-x64': 0x3e, 'linux-arm64': 0xb7 } as const
const ELF_MACHINE_OFFSET = 18

interface Place {
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
}

function step<T>(name: string, action: () => T): T {
  const startedAt = performance.now()
  const result = action()
  process.stdout.write(`ok  ${name.padEnd(60)} ${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s\n`)
  return result
}

function run(place: Place, program: string, args: readonly string[]): string {
  return execFileSync(program, args, {
    cwd: place.folder,
    env: place.env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: STEP_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
}

/** An empty folder, and a PATH with this Node 24 but without the programs of the checkout. */
function emptyPlace(base: string): Place {
  const folder = join(base, 'empty')
  const bin = join(base, 'node')
  mkdirSync(folder)
  mkdirSync(bin)
  symlinkSync(process.execPath, join(bin, 'node'))
  const outside = (process.env['PATH'] ?? '').split(':').filter((path) => !path.startsWith(join(root, 'node_modules')))
  const env = { ...process.env, PATH: [bin, ...outside].join(':'), PYRO_HOME: join(base, 'home') }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  return { folder, env }
}

function install(place: Place, tarballs: readonly Tarball[]): void {
  run(place, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs.map(({ path }) => path)])
}

function checkAgents(place: Place): void {
  for (const [platform, machine] of Object.entries(ELF_MACHINES)) {
    const agent = readFileSync(join(place.folder, 'node_modules/@pyro/engine/agent', platform, 'pyro-agent'))
    const found = agent.readUInt16LE(ELF_MACHINE_OFFSET)
    if (found !== machine) throw new Error(`the agent for ${platform} is for ELF machine ${found}`)
  }
}

function checkTypes(place: Place): void {
  const source = "import { Pyro } from '@pyro/sdk'\nexport const connect = (): Promise<Pyro> => Pyro.connect()\n"
  writeFileSync(join(place.folder, 'user.ts'), source)
  const types = ['--typeRoots', join(root, 'node_modules/@types'), '--types', 'node']
  const options = [
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2024',
    '--lib',
    'es2024,esnext.disposable',
  ]
  run(place, join(root, 'node_modules/.bin/tsc'), [...options, ...types, 'user.ts'])
}

using hostRun = await HostRun.begin()
process.env['PYRO_RUNTIME_DIR'] = hostRun.runtimeDir
const base = mkdtempSync(join(tmpdir(), 'pyro-dist-check-'))
const place = emptyPlace(base)
const pyro = (...args: string[]): string => run(place, join(place.folder, 'node_modules/.bin/pyro'), args)
try {
  const tarballs = step('pack', () => packAll(join(base, 'tarballs')))
  for (const { name, sizeBytes } of tarballs) process.stdout.write(`    ${name} ${Math.ceil(sizeBytes / 1024)} KiB\n`)
  step('install into an empty folder', () => install(place, tarballs))
  step('agents for x64 and arm64', () => checkAgents(place))
  step('types of the SDK', () => checkTypes(place))
  step('pyro version', () => pyro('version'))
  step('pyro doctor', () => pyro('doctor'))
  cpSync(join(root, 'scripts/story'), join(place.folder, 'story'), { recursive: true })
  step('the story through the SDK', () => process.stdout.write(run(place, 'node', ['story/main.ts', root])))
  step('the story through the command', () => storyThroughCommand())
  step('nothing leaks', () => pyro('doctor', '--leaks'))
} finally {
  step('stop the engine', () => cleanUp())
}

function storyThroughCommand(): void {
  const isolation = bestIsolation()
  pyro('workspace', 'create', 'debian:12', '--name', 'dist', '--seed-git', root, ...isolation)
  pyro('workspace', 'exec', 'dist', '--', 'sh', '-c', 'echo 1 > made-here.txt')
  pyro('workspace', 'snapshot', 'create', 'dist', 'good')
  pyro('workspace', 'exec', 'dist', '--', 'sh', '-c', 'rm -rf /workspace/* /bin/ls')
  pyro('workspace', 'reset', 'dist', '--snapshot', 'good')
  pyro('workspace', 'exec', 'dist', '--', 'ls', '/workspace/made-here.txt')
  const patch = pyro('workspace', 'diff', 'dist')
  if (!patch.includes('made-here.txt')) throw new Error(`the patch lacks the change: ${patch.slice(0, 500)}`)
  pyro('workspace', 'delete', 'dist')
}

/** The pool stays mounted when an engine ends, for the sandboxes that live on; this home has none and goes. */
function cleanUp(): void {
  if (!existsSync(join(place.folder, 'node_modules/.bin/pyro'))) return
  pyro('daemon', 'stop', '--workspaces')
  const runtimeDir = dirname(socketOfHome(resolveHome({ env: place.env }), place.env))
  const volumes = join(runtimeDir, 'volumes')
  if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${volumes} `)) run(place, 'umount', [volumes])
}

/** A host without gVisor still checks the packages, in a container, and says so. */
function bestIsolation(): string[] {
  const doctor = JSON.parse(pyro('doctor', '--json')) as { capabilities: { id: string; ok: boolean }[] }
  const gvisor = doctor.capabilities.some(({ id, ok }) => ok && id.includes('runsc'))
  if (gvisor) return []
  process.stdout.write('    no gVisor here: going on with --driver runc\n')
  return ['--driver', 'runc']
}
