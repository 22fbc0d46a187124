import { access, constants, readFile } from 'node:fs/promises'
import { detectCgroups } from '../../process/cgroup-host.ts'
import { findProgram } from '../../process/find-program.ts'
import { errnoOf } from '../../process/identity.ts'
import { isEnoughOpenFiles, liftOpenFiles } from '../../process/open-files.ts'
import { runProgram } from '../../process/program.ts'
import { readHostMemory } from '../../workspace/admission.ts'
import type { Engine } from '../engine.ts'
import type { Check, Verdict } from './capabilities.ts'

const OLDEST_NODE = 24
/** Bit of /proc/PID/status that lets mount; containers often have root without it. */
const CAP_SYS_ADMIN = 21n
const AGENT_TIMEOUT_MS = 5_000
/** What the agent binary answers to a call without a role. */
const AGENT_USAGE_EXIT = 2
/** Memory of a workspace whose create says nothing else (contract). */
const WORKSPACE_MEMORY_MIB = 2048

const MIB = 1024 * 1024

/** What a pull of an environment of the catalog calls. */
const BUILD_TOOLS = [
  { file: 'mmdebstrap', package: 'mmdebstrap' },
  { file: 'apt-get', package: 'apt' },
  { file: 'unshare', package: 'util-linux' },
  { file: 'tar', package: 'tar' },
  { file: '/usr/share/keyrings/debian-archive-keyring.gpg', package: 'debian-archive-keyring' },
] as const

export const hostChecks = (engine: Engine): readonly Check[] => [
  { id: 'root', required: true, run: checkRoot },
  { id: 'node', required: true, run: checkNode },
  { id: 'agent', required: true, run: () => checkAgent(engine.agentPath) },
  { id: 'cgroups', required: true, run: checkCgroups },
  { id: 'memory', required: false, run: checkMemory },
  { id: 'open-files', required: false, run: checkOpenFiles },
  { id: 'environment-tools', required: false, run: checkBuildTools },
]

const checkRoot = async (): Promise<Verdict> => {
  const uid = process.getuid?.() ?? -1
  if (uid !== 0) return { ok: false, detail: `the engine runs as user ${uid}`, fix: 'sudo pyro daemon restart' }
  const status = await readFile('/proc/self/status', 'utf8')
  const effective = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  if (((effective >> CAP_SYS_ADMIN) & 1n) === 1n) return { ok: true, detail: 'the engine runs as root', fix: null }
  return {
    ok: false,
    detail: 'the engine runs as root, but without CAP_SYS_ADMIN: it cannot mount',
    fix: 'run Pyro on the host itself, or in a privileged container',
  }
}

const checkNode = (): Promise<Verdict> => {
  const ok = Number(process.versions.node.split('.')[0]) >= OLDEST_NODE
  return Promise.resolve({ ok, detail: `Node ${process.versions.node}`, fix: ok ? null : 'npm install -g node@24' })
}

const checkAgent = async (path: string): Promise<Verdict> => {
  const { exitCode, signal } = await runProgram(path, [], { timeoutMs: AGENT_TIMEOUT_MS, env: {} })
  if (exitCode === AGENT_USAGE_EXIT) return { ok: true, detail: path, fix: null }
  return { ok: false, detail: `${path} does not run: ${signal ?? `exit ${exitCode}`}`, fix: 'npm run setup' }
}

const checkCgroups = async (): Promise<Verdict> => {
  const host = await detectCgroups()
  if (host === null) {
    return {
      ok: false,
      detail: 'this host has no memory, pids and cpu control groups: there are no limits for sandboxes',
      fix: null,
    }
  }
  const controllers = host.mode === 'v1' ? [...host.controllers.keys()].join(', ') : 'memory, pids, cpu'
  return { ok: true, detail: `version ${host.mode === 'v1' ? 1 : 2}: ${controllers}`, fix: null }
}

const checkMemory = async (): Promise<Verdict> => {
  const { availableMib, totalMib } = await readHostMemory()
  const ok = availableMib >= WORKSPACE_MEMORY_MIB
  const detail = `${availableMib} MiB of ${totalMib} MiB free`
  if (ok) return { ok, detail, fix: null }
  return {
    ok,
    detail: `${detail}; a workspace asks for ${WORKSPACE_MEMORY_MIB} MiB unless it says otherwise`,
    fix: `pyro workspace create ENV --memory-mib ${Math.max(64, Math.floor(availableMib / 2))}`,
  }
}

/** Drivers do the same before they start a sandbox. */
const checkOpenFiles = async (): Promise<Verdict> => {
  const { totalMib } = await readHostMemory()
  const most = await liftOpenFiles()
  if (isEnoughOpenFiles(most, totalMib * MIB))
    return { ok: true, detail: 'no sandbox can take all open files of the host', fix: null }
  return {
    ok: false,
    detail: `one sandbox can take all ${most} open files of the host, and here Pyro may not change fs.file-max`,
    fix: `sysctl -w fs.file-max=${2n ** 63n - 1n}`,
  }
}

const checkBuildTools = async (): Promise<Verdict> => {
  const present = await Promise.all(BUILD_TOOLS.map(({ file }) => isThere(file)))
  const missing = BUILD_TOOLS.filter((_, index) => present[index] === false)
  if (missing.length > 0) {
    const packages = missing.map((tool) => tool.package).join(' ')
    return {
      ok: false,
      detail: `missing to build Debian environments: ${missing.map(({ file }) => file).join(', ')}`,
      fix: `apt-get install -y ${packages}`,
    }
  }
  const tools = BUILD_TOOLS.map(({ package: name }) => name).join(', ')
  return { ok: true, detail: `Debian environments can be built: ${tools}`, fix: null }
}

const isThere = async (file: string): Promise<boolean> => {
  if (!file.startsWith('/')) return (await findProgram(file)) !== null
  try {
    await access(file, constants.R_OK)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
