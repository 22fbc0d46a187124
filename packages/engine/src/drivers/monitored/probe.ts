import { randomBytes, randomUUID } from 'node:crypto'
import { chown, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isPyroError } from '@pyro/protocol'
import { z } from 'zod'
import type { Driver, Probe, SandboxSpec } from '../../driver/driver.ts'
import { DISK_FILE, type VolumeId } from '../../disk/disk-store.ts'
import { labelOf, makeDiskImage, type DiskImageHost } from '../../disk/disk-image.ts'
import type { EngineConfig } from '../../lib/config.ts'
import { readJsonFile, writeJsonFile } from '../../lib/json-file.ts'
import { errnoOf } from '../../process/identity.ts'
import { sandboxesFolder } from './sandbox-paths.ts'
import type { Technology } from './technology.ts'

const START_DEADLINE_MS = 15_000
const PREPARE_DEADLINE_MS = 10 * 60_000
const PROBE_DISK_BYTES = 64 * 1024 * 1024
/** A failed try is believed for this long: somebody may be putting things right. */
const FAILURE_KEPT_MS = 30_000
const TREE = ['proc', 'sys', 'dev', 'run', 'tmp', 'workspace', 'etc'] as const

const verdict = z.strictObject({
  /** Of the host's boot: a new kernel may change everything. */
  bootId: z.string(),
  version: z.string(),
  atMs: z.number(),
  probe: z.strictObject({ ok: z.boolean(), detail: z.string(), fix: z.string().nullable() }),
})

interface ProbeContext {
  readonly config: EngineConfig
  readonly agentPath: string
  readonly hasCgroups: () => Promise<boolean>
}

/** Starts a tiny sandbox for real, once per boot of the host and version of the runtime. Never throws. */
export async function cachedProbe(driver: Driver, technology: Technology, cx: ProbeContext): Promise<Probe> {
  try {
    const lacking = await technology.missing()
    if (lacking !== null) return lacking
    if (!(await cx.hasCgroups())) {
      return { ok: false, detail: `${driver.id}: this host has no memory, pids and cpu control groups`, fix: null }
    }
    const file = join(cx.config.runtimeDir, `probe-${driver.id}.json`)
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
    const version = await technology.version()
    const known = await readJsonFile(file, verdict)
    if (known?.bootId === bootId && known.version === version) {
      if (known.probe.ok || Date.now() - known.atMs < FAILURE_KEPT_MS) return known.probe
    }
    const probe = await tryStart(driver, version, cx)
    await mkdir(cx.config.runtimeDir, { recursive: true, mode: 0o711 })
    await writeJsonFile(file, { bootId, version, atMs: Date.now(), probe })
    return probe
  } catch (error) {
    return { ok: false, detail: `${driver.id}: the probe failed: ${messageOf(error)}`, fix: fixOf(error, cx.config) }
  }
}

/** What an engine left that was killed while it tried this driver. There is one try at a time: the names are of former ones. */
async function releaseFormer(driver: Driver, runtimeDir: string): Promise<void> {
  const prefix = `probe-${driver.id}-`
  const former = async (folder: string): Promise<string[]> =>
    (await namesIn(folder)).filter((name) => name.startsWith(prefix))
  const isTree = (name: string): boolean => !name.includes('.')
  // The tree is made first and goes last: of what was made in between there may be control groups and no folder.
  const trees = (await former(runtimeDir)).filter(isTree)
  for (const sandboxId of new Set([...trees, ...(await former(sandboxesFolder(runtimeDir)))]))
    await driver.reclaim({ driver: driver.id, spec: { sandboxId }, details: {} })
  for (const tree of await former(runtimeDir)) await rm(join(runtimeDir, tree), { recursive: true, force: true })
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function tryStart(driver: Driver, version: string, { config, agentPath }: ProbeContext): Promise<Probe> {
  await releaseFormer(driver, config.runtimeDir)
  const name = `probe-${driver.id}-${randomBytes(4).toString('hex')}`
  const tree = join(config.runtimeDir, name)
  await mkdir(config.runtimeDir, { recursive: true, mode: 0o711 })
  await using undo = new AsyncDisposableStack()
  undo.defer(() => rm(tree, { recursive: true, force: true }))
  await makeTree(tree, config.idBase)
  const filesystem = randomUUID()
  if (driver.volumes === 'images') await imageInPlace(tree, filesystem, { agentPath, idBase: config.idBase })
  const spec: SandboxSpec = {
    sandboxId: name,
    workspaceId: name,
    generation: 1,
    volume: { id: name as VolumeId, path: tree, writable: true },
    filesystem: driver.volumes === 'images' ? filesystem : null,
    inspects: [],
    hostname: 'probe',
    vcpus: 1,
    memoryMib: 256,
    pidsMax: 256,
    token: randomBytes(32).toString('hex'),
  }
  try {
    await driver.prepare(spec, { signal: AbortSignal.timeout(PREPARE_DEADLINE_MS) })
    const begun = performance.now()
    const sandbox = await driver.start(spec, {
      signal: new AbortController().signal,
      deadlineMs: START_DEADLINE_MS,
    })
    const tookMs = Math.round(performance.now() - begun)
    await sandbox.stop()
    return { ok: true, detail: `${version}; a sandbox started in ${tookMs} ms`, fix: null }
  } catch (error) {
    return { ok: false, detail: `${version}; a sandbox does not start: ${messageOf(error)}`, fix: fixOf(error, config) }
  }
}

async function makeTree(tree: string, owner: number): Promise<void> {
  for (const folder of ['', ...TREE]) {
    const path = join(tree, folder)
    await mkdir(path, { mode: 0o755 })
    await chown(path, owner, owner)
  }
}

/** A volume with the disk of this tree instead of the tree. */
async function imageInPlace(tree: string, uuid: string, host: DiskImageHost): Promise<void> {
  const source = `${tree}.tree`
  await rename(tree, source)
  try {
    await mkdir(tree, { mode: 0o700 })
    await makeDiskImage(host, {
      tree: source,
      file: join(tree, DISK_FILE),
      bytes: PROBE_DISK_BYTES,
      uuid,
      label: labelOf(basename(tree)),
    })
  } finally {
    await rm(source, { recursive: true, force: true })
  }
}

const messageOf = (error: unknown): string =>
  isPyroError(error) || error instanceof Error ? error.message : String(error)

const fixOf = (error: unknown, { home }: EngineConfig): string | null => {
  if (isPyroError(error) && error.code === 'host.missing-tool') return error.hint
  const isFull = errnoOf(error) === 'ENOSPC' || (isPyroError(error) && error.code === 'disk.full')
  return isFull ? `make room where the engine keeps its files: df -h ${home}` : null
}
