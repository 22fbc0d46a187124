import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { publishedManifest, type Manifest } from './manifest.ts'

const root = join(import.meta.dirname, '..', '..')
const BUILD_DEADLINE_MS = 5 * 60_000
const AGENTS = ['agent/linux-x64/pyro-agent', 'agent/linux-arm64/pyro-agent']

/** Sources that only tests import. */
const FOR_TESTS = /(?:\.test|(?:^|\/)test-server)\.ts$/

/** In the order of their dependencies. */
export const publishedPackages = ['protocol', 'sdk', 'mcp', 'engine', 'cli'] as const

export interface Tarball {
  readonly name: string
  readonly path: string
  readonly sizeBytes: number
}

/** Builds the publishable packages and writes one tarball each into `destination`. */
export function packAll(destination: string): Tarball[] {
  run('tsc', ['-b', ...publishedPackages.map((name) => join('packages', name))])
  mkdirSync(destination, { recursive: true })
  const staging = mkdtempSync(join(tmpdir(), 'pyro-pack-'))
  try {
    return publishedPackages.map((name) => packOne(name, join(staging, name), destination))
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

function packOne(name: string, staged: string, destination: string): Tarball {
  const source = join(root, 'packages', name)
  const manifest = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8')) as Manifest
  mkdirSync(staged, { recursive: true })
  writeFileSync(join(staged, 'package.json'), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`)
  writeFileSync(join(staged, 'README.md'), `# ${manifest.name}\n\n${manifest.description}. Part of Pyro.\n`)
  cpSync(join(root, 'LICENSE'), join(staged, 'LICENSE'))
  stageBuilt(source, staged)
  if (existsSync(join(source, 'bin'))) cpSync(join(source, 'bin'), join(staged, 'bin'), { recursive: true })
  if (name === 'engine') stageAgents(source, staged)
  const output = run('npm', ['pack', '--json', '--pack-destination', destination], staged)
  const file = packedFile(JSON.parse(output))
  const path = join(destination, file)
  return { name: manifest.name, path, sizeBytes: statSync(path).size }
}

/** npm 11 lists what it packed; newer ones key it by package name. */
function packedFile(report: unknown): string {
  const entries = Object.values(report as Record<string, { filename?: unknown }>)
  const file = entries[0]?.filename
  if (typeof file !== 'string') throw new Error(`npm pack reported no file: ${JSON.stringify(report)}`)
  return file
}

/** Takes the built form of every source there is: what an earlier build left behind for a deleted source stays behind. */
function stageBuilt(source: string, staged: string): void {
  for (const name of readdirSync(join(source, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (FOR_TESTS.test(name) || statSync(join(source, 'src', name)).isDirectory()) continue
    const stem = /^(.+)\.ts$/.exec(name)?.[1]
    if (stem === undefined) copy(join(source, 'src', name), join(staged, 'dist', name))
    else
      for (const suffix of ['.js', '.d.ts'])
        copy(join(source, 'dist', stem + suffix), join(staged, 'dist', stem + suffix))
  }
}

function stageAgents(source: string, staged: string): void {
  for (const agent of AGENTS) {
    copy(join(source, agent), join(staged, agent))
    chmodSync(join(staged, agent), 0o755)
  }
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  cpSync(from, to)
}

function run(program: string, args: readonly string[], cwd = root): string {
  return execFileSync(program, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: BUILD_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
}
