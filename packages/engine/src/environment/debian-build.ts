import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError, PyroError, type Progress } from '@pyro/protocol'
import { errnoOf } from '../process/identity.ts'
import { runProgram } from '../process/program.ts'
import { startStreamingProgram } from '../process/streaming-program.ts'
import { configuredSources, debianMirror, publicSources, type AptSource, type DebianMirror } from './apt-sources.ts'
import { noSpace } from './archive.ts'
import { BuildProgress } from './build-progress.ts'
import { debianArchitecture, LEFT_OUT, type Recipe } from './catalog.ts'

const BUILD_TIMEOUT_MS = 30 * 60_000
const TOOL_TIMEOUT_MS = 20_000
/** Files that the build makes get this time, so that one mirror state gives one archive; those of packages keep theirs. */
const SOURCE_DATE_EPOCH = 1_700_000_000
const HOST_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const MERGED_USR_HOOKS = '/usr/share/mmdebstrap/hooks/merged-usr'
const ETC_APT = '/etc/apt'
/** A mirror that takes connections and says nothing is given up after three minutes, not eight; the host's own setting wins. */
const UNANSWERED = ['http', 'https'].map((way) => `Acquire::${way}::Timeout "15";`).concat('Acquire::Retries "2";')
/** What of the host's apt configuration a download needs; never hooks or folders. */
const CARRIED_OPTIONS =
  /^Acquire::(http|https|ftp|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|By-Hash|Queue-Mode)\b/i

/** The cache is the host's: nothing may be removed from it. */
const LET_CACHE_GO = 'umount "$1/var/cache/apt/archives"'
/** Nothing a reader of an environment could want: indexes of this build, its options, traces of this host. */
const CLEAN = [
  LET_CACHE_GO,
  'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
  'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/.pwd.lock',
  'rm -f "$1"/var/cache/apt/*.bin "$1"/var/cache/debconf/*-old "$1"/var/cache/ldconfig/aux-cache',
  'cp "$PYRO_BUILD/debian.sources" "$1/etc/apt/sources.list.d/debian.sources"',
]

export interface BuildOptions {
  readonly recipe: Recipe
  /** Package cache, kept for the next build and for one that was interrupted. */
  readonly cacheFolder: string
  /** For what exists during the build only. */
  readonly temporaryFolder: string
  readonly mirrorOverride: string | null
  /** Where mmdebstrap and what it calls are looked for. */
  readonly programPath: string
  /** Where the tar goes. */
  readonly output: string
  readonly signal: AbortSignal
  readonly onProgress: (progress: Progress) => void
}

/**
 * Builds a root filesystem from the host's Debian mirror. Everything runs in a mount and pid namespace of its own, so the end of
 * the one process we hold is the end of all mounts and processes of the build.
 */
export const buildDebian = async (options: BuildOptions): Promise<void> => {
  const mirror = debianMirror(await configuredSources(ETC_APT), options.mirrorOverride)
  await mkdir(join(options.cacheFolder, 'partial'), { recursive: true, mode: 0o755 })
  const folder = await mkdtemp(join(options.temporaryFolder, 'build-'))
  try {
    await writeFile(join(folder, 'debian.sources'), publicSources(options.recipe.suite, HOST_KEYRING))
    await writeFile(join(folder, 'build.list'), await buildSources(mirror, options.recipe.suite, folder))
    await writeFile(join(folder, 'apt.conf'), await carriedOptions())
    await runMmdebstrap(folder, options)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const runMmdebstrap = async (folder: string, options: BuildOptions): Promise<void> => {
  const { recipe, signal } = options
  const progress = new BuildProgress(recipe.name, options.onProgress)
  const late = AbortSignal.timeout(BUILD_TIMEOUT_MS)
  const program = startStreamingProgram(
    '/usr/bin/setpriv',
    [
      ...WITH_ENGINE,
      '/usr/bin/unshare',
      ...NAMESPACES,
      'sh',
      '-c',
      ON_OVERLAY,
      'mmdebstrap',
      ...mmdebstrapArgs(folder, options),
    ],
    {
      stdin: 'ignore',
      env: {
        PATH: options.programPath,
        LC_ALL: 'C.UTF-8',
        DEBIAN_FRONTEND: 'noninteractive',
        SOURCE_DATE_EPOCH: String(SOURCE_DATE_EPOCH),
        TMPDIR: folder,
        PYRO_BUILD: folder,
        PYRO_CACHE: options.cacheFolder,
        ...proxyVariables(),
      },
      onStderr: (text) => progress.push(text),
      signal: AbortSignal.any([signal, late]),
    },
  )
  program.stdout.on('data', (chunk: Buffer) => progress.push(chunk.toString('utf8')))
  const end = await program.ended
  signal.throwIfAborted()
  if (end.exitCode === 0) return
  // What `sh` answers when there is no such program.
  if (end.exitCode === 127) throw missingTool()
  if (progress.isDiskFull) throw noSpace()
  throw new PyroError(
    'environment.pull-failed',
    late.aborted
      ? `building ${recipe.name} took longer than ${BUILD_TIMEOUT_MS / 60_000} minutes; nothing was installed`
      : `building ${recipe.name} with mmdebstrap failed: ${progress.lastError() ?? end.stderrTail.trim().split('\n').at(-1) ?? ''}; nothing was installed`,
    {
      hint: 'check that apt-get update works on this host, then pull again: packages that were fetched are kept',
      data: { log: end.stderrTail.slice(-4000) },
    },
  )
}

/** The build dies with the engine, whatever ends that. */
const WITH_ENGINE = ['--pdeathsig', 'KILL', '--']
const NAMESPACES = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc', '--']

/** A mount namespace begins with a copy of every mount of the host: the pools of all homes would stay busy while we build. */
const WITHOUT_POOLS = `while read -r _ at type _; do
  case "$type $at" in 'btrfs '*/volumes) umount --lazy "$(printf %b "$at")" || : ;; esac
done </proc/self/mounts`

/**
 * Builds on an overlay of our own where the host can: a volatile one waits for no disk (dpkg syncs thousands of times), and being
 * another filesystem than the package cache it keeps a build that fails from emptying that: it ends with `rm --one-file-system`.
 * Relative, as commas and colons would end a path in options.
 */
const ON_OVERLAY = `${WITHOUT_POOLS}
cd "$PYRO_BUILD" && mkdir upper work tree &&
mount -t overlay overlay -o volatile,lowerdir=tree,upperdir=upper,workdir=work tree && export TMPDIR="$PYRO_BUILD/tree"
exec "$0" "$@"`

const mmdebstrapArgs = (folder: string, { recipe, output }: BuildOptions): string[] => [
  '--verbose',
  '--mode=root',
  `--variant=${recipe.only === null ? 'minbase' : 'extract'}`,
  '--format=tar',
  `--architectures=${debianArchitecture()}`,
  `--aptopt=${join(folder, 'apt.conf')}`,
  ...LEFT_OUT.map((option) => `--dpkgopt=${option}`),
  // A build that is cut off is thrown away: nothing in it has to survive a power failure.
  '--dpkgopt=force-unsafe-io',
  `--hook-dir=${MERGED_USR_HOOKS}`,
  // The cache is a folder of the host until the first clean-up step unmounts it: nothing may be removed from it.
  '--skip=essential/unlink',
  ...(recipe.packages.length === 0 ? [] : [`--include=${recipe.packages.join(',')}`]),
  '--setup-hook=mkdir -p "$1/var/cache/apt/archives" && mount --bind "$PYRO_CACHE" "$1/var/cache/apt/archives"',
  ...(recipe.only === null
    ? CLEAN.map((command) => `--customize-hook=${command}`)
    : [LET_CACHE_GO, keepOnly(recipe.only)].map((command) => `--extract-hook=${command}`)),
  recipe.suite,
  output,
  join(folder, 'build.list'),
]

const keepOnly = (paths: readonly string[]): string =>
  `cd "$1" && find . -xdev ! -type d ! -path './etc/apt/*' ! -path './var/*' ${paths.map((path) => `! -path './${path}'`).join(' ')} -delete`

/** Source lines for the build, with whatever credentials the host's ones have. */
const buildSources = async (mirror: DebianMirror, suite: string, folder: string): Promise<string> => {
  const line = async (source: AptSource, name: string): Promise<string> => {
    const options = []
    const key = await keyOf(source, folder)
    if (key !== null) options.push(`signed-by=${key}`)
    if (source.trusted) options.push('trusted=yes')
    return `deb ${options.length === 0 ? '' : `[${options.join(' ')}] `}${source.uri} ${name} main\n`
  }
  const lines = [await line(mirror.main, suite), await line(mirror.main, `${suite}-updates`)]
  if (mirror.security !== null) lines.push(await line(mirror.security, `${suite}-security`))
  return lines.join('')
}

const keyOf = async ({ signedBy }: AptSource, folder: string): Promise<string | null> => {
  if (signedBy === null) return (await exists(HOST_KEYRING)) ? HOST_KEYRING : null
  if (!signedBy.includes('-----BEGIN PGP')) return signedBy
  const path = join(folder, 'mirror-key.asc')
  await writeFile(path, signedBy + '\n')
  return path
}

/** Proxy, certificates and the like; log-in data is named by its place on the host, never copied. */
const carriedOptions = async (): Promise<string> => {
  const lines = ['Acquire::Languages "none";', 'APT::Install-Recommends "false";', ...UNANSWERED]
  const dump = await aptConfig()
  for (const line of dump.split('\n')) {
    if (CARRIED_OPTIONS.test(line) && !line.endsWith(' "";')) lines.push(line)
  }
  if (await exists(join(ETC_APT, 'auth.conf'))) lines.push(`Dir::Etc::netrc "${join(ETC_APT, 'auth.conf')}";`)
  if (await exists(join(ETC_APT, 'auth.conf.d'))) lines.push(`Dir::Etc::netrcparts "${join(ETC_APT, 'auth.conf.d')}";`)
  return lines.join('\n') + '\n'
}

const aptConfig = async (): Promise<string> => {
  try {
    return (await runProgram('apt-config', ['dump'], { timeoutMs: TOOL_TIMEOUT_MS })).stdout
  } catch (error) {
    if (isPyroError(error) && error.code === 'host.missing-tool') throw missingTool(error)
    throw error
  }
}

const missingTool = (cause?: unknown): PyroError =>
  new PyroError(
    'host.missing-tool',
    'mmdebstrap is not installed, which builds the Debian environments; nothing was changed',
    {
      hint: 'apt-get install mmdebstrap debian-archive-keyring',
      cause,
    },
  )

const proxyVariables = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      /^(https?|ftp|no)_proxy$/i.test(name) && value !== undefined ? [[name, value]] : [],
    ),
  )

const exists = async (path: string): Promise<boolean> => {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
