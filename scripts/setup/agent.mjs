// Builds the guest agent (Go, static). Skipped while the content of its sources, the tool-chain and the flags are the same.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram, readText } from './host.mjs'
import { run, SetupError, step } from './report.mjs'

const GO_OLDEST = { major: 1, minor: 24 }
const GO_FOLDERS = ['/usr/local/go/bin', '/usr/lib/go/bin']
const BUILD_DEADLINE_MS = 15 * 60_000
const PROBE_DEADLINE_MS = 20_000
/** Reproducible: no paths, no VCS state, no build id. */
const BUILD_FLAGS = ['-trimpath', '-buildvcs=false', '-ldflags=-s -w -buildid=']

/** npm's architecture names to Go's. */
export const AGENT_ARCHITECTURES = /** @type {const} */ ({ x64: 'amd64', arm64: 'arm64' })

/** @typedef {keyof typeof AGENT_ARCHITECTURES} AgentArchitecture */

/** The Go tool, checked to be new enough. */
export function findGo() {
  const go = findProgram('go', GO_FOLDERS)
  const remedy =
    'install the package golang-go of Debian 13 or newer; Debian 12 has none new enough: unpack the archive from https://go.dev/dl into /usr/local'
  const oldest = `${GO_OLDEST.major}.${GO_OLDEST.minor}`
  if (go === null)
    throw new SetupError(`Go ${oldest} or newer is needed to build the agent, and there is none: ${remedy}`)
  const result = spawnSync(go, ['env', 'GOVERSION'], {
    encoding: 'utf8',
    env: goEnvironment(),
    timeout: PROBE_DEADLINE_MS,
  })
  const version = (result.stdout ?? '').trim()
  const [, major = 0, minor = 0] = (/^go(\d+)\.(\d+)/.exec(version) ?? []).map(Number)
  if (major < GO_OLDEST.major || (major === GO_OLDEST.major && minor < GO_OLDEST.minor)) {
    throw new SetupError(
      `Go ${oldest} or newer is needed to build the agent; ${go} is ${version || 'broken'}: ${remedy}`,
    )
  }
  return { path: go, version }
}

/** Never downloads another tool-chain; nothing of the caller's Go settings changes what is built. */
export function goEnvironment() {
  return { ...process.env, GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off', GOAMD64: 'v1' }
}

/**
 * @param {string} root
 * @param {string} goVersion
 */
function sourcesHash(root, goVersion) {
  const hash = createHash('sha256')
  hash.update(JSON.stringify([goVersion, BUILD_FLAGS]))
  const guest = join(root, 'guest')
  const names = readdirSync(guest, { recursive: true, encoding: 'utf8' })
  for (const name of names.sort()) {
    const isSource = /\.(go|s|mod|sum|json)$/.test(name) && !name.endsWith('_test.go')
    if (!isSource && !name.endsWith('vendor/modules.txt')) continue
    hash.update(`\0${name}\0`)
    hash.update(readFileSync(join(guest, name)))
  }
  return hash.digest('hex')
}

/**
 * Architectures whose binary is not up to date.
 * @param {string} root
 * @param {AgentArchitecture[]} architectures
 * @param {string} goVersion
 */
export function staleAgents(root, architectures, goVersion) {
  const sources = sourcesHash(root, goVersion)
  const stale = architectures.filter((architecture) => {
    const folder = agentFolder(root, architecture)
    return readText(join(folder, 'sources.sha256')) !== sources || !existsSync(join(folder, 'pyro-agent'))
  })
  return { sources, stale }
}

/**
 * @param {string} root
 * @param {AgentArchitecture} architecture
 */
function agentFolder(root, architecture) {
  return join(root, 'packages', 'engine', 'agent', `linux-${architecture}`)
}

/**
 * @param {string} root
 * @param {{ go: string, sources: string, stale: AgentArchitecture[] }} plan
 */
export async function buildAgents(root, plan) {
  const cwd = join(root, 'guest')
  if (!existsSync(join(cwd, 'vendor'))) {
    await step('Go modules', { download: true }, () =>
      run(plan.go, ['mod', 'download'], {
        cwd,
        env: goEnvironment(),
        deadlineMs: BUILD_DEADLINE_MS,
        hint: 'the module proxy (`go env GOPROXY`) must be reachable once',
      }),
    )
  }
  for (const architecture of plan.stale) {
    const folder = agentFolder(root, architecture)
    mkdirSync(folder, { recursive: true })
    const env = { ...goEnvironment(), GOOS: 'linux', GOARCH: AGENT_ARCHITECTURES[architecture] }
    const fresh = join(folder, `pyro-agent.${process.pid}`)
    await step(`agent linux-${architecture}`, {}, () =>
      run(plan.go, ['build', ...BUILD_FLAGS, '-o', fresh, './cmd/agent'], { cwd, env, deadlineMs: BUILD_DEADLINE_MS }),
    )
    // A running engine may be using the old file: it is replaced by name, never written over.
    renameSync(fresh, join(folder, 'pyro-agent'))
    writeFileSync(join(folder, 'sources.sha256'), plan.sources)
  }
}
