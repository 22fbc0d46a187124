// System packages, through apt. A requirement is a program, not a package: whoever installed it in another way is left alone.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { backportsStanza, configuredSources } from './apt-sources.mjs'
import { distribution, findProgram, isRoot } from './host.mjs'
import { run, say, SetupError, step } from './report.mjs'

/** gVisor releases before this year have the ptrace platform only, and other flags. */
const RUNSC_OLDEST_YEAR = 2023
/** 8.2, the first that maps a template read-only, as major * 100 + minor. */
const QEMU_OLDEST = 802
const APT_DEADLINE_MS = 15 * 60_000
const PROBE_DEADLINE_MS = 10_000
const BACKPORTS_FILE = '/etc/apt/sources.list.d/pyro-backports.sources'

/**
 * `backports`: the packages that bookworm has too old, `package` and all that must come along with it: apt takes only
 * what is named from a suite of low priority.
 * @typedef {{ program: string, package: string, why: string, backports?: string[], present?: (path: string) => boolean }} Requirement
 */

/** What `pyro` itself needs on the host. @type {Requirement[]} */
const ENGINE_REQUIREMENTS = [
  { program: 'runsc', package: 'runsc', why: 'gVisor sandboxes', backports: ['runsc'], present: isRecentRunsc },
  { program: 'runc', package: 'runc', why: 'container sandboxes' },
  { program: 'mkfs.btrfs', package: 'btrfs-progs', why: 'the volume pool' },
  { program: 'losetup', package: 'mount', why: 'the volume pool' },
  { program: 'mmdebstrap', package: 'mmdebstrap', why: 'debian:12 environments' },
  { program: 'git', package: 'git', why: 'seeding a repository, applying patches' },
  { program: 'xz', package: 'xz-utils', why: 'unpacking Debian packages' },
]

/** What only the tests need: independent witnesses of what Pyro claims. @type {Requirement[]} */
const TEST_REQUIREMENTS = [
  { program: 'getfattr', package: 'attr', why: 'an independent look at extended attributes' },
  { program: 'strace', package: 'strace', why: 'counting what the engine asks of the kernel' },
  { program: 'zstd', package: 'zstd', why: 'making .tar.zst seeds' },
  {
    program: 'busybox',
    package: 'busybox-static',
    why: 'root filesystems of one file',
    present: (path) => isStatic(readFileSync(path)),
  },
  { program: 'ps', package: 'procps', why: 'looking for left-over processes' },
  {
    program: 'qemu-system-x86_64',
    package: 'qemu-system-x86',
    why: 'microVMs',
    backports: ['qemu-system-x86', 'qemu-system-common', 'qemu-system-data', 'seabios'],
    present: isRecentQemu,
  },
  { program: 'mke2fs', package: 'e2fsprogs', why: 'disk images of microVMs' },
]

/** A program that names no interpreter needs no libraries. 64-bit, little-endian. @param {Buffer} elf */
function isStatic(elf) {
  const PT_INTERP = 3
  const [start, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)]
  return Array.from({ length: count }, (_, at) => elf.readUInt32LE(start + at * size)).every(
    (type) => type !== PT_INTERP,
  )
}

/** @param {string} path */
function isRecentRunsc(path) {
  const result = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: PROBE_DEADLINE_MS })
  const year = /(20\d\d)\d{4}/.exec(result.stdout ?? '')?.[1]
  // Builds from source carry a commit instead of a date: those are nobody's ancient package.
  return result.status === 0 && (year === undefined || Number(year) >= RUNSC_OLDEST_YEAR)
}

/** @param {string} path */
function isRecentQemu(path) {
  const result = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: PROBE_DEADLINE_MS })
  const [, major = 0, minor = 0] = (/version (\d+)\.(\d+)/.exec(result.stdout ?? '') ?? []).map(Number)
  return result.status === 0 && major * 100 + minor >= QEMU_OLDEST
}

/** @param {Requirement} requirement */
function isMissing(requirement) {
  const path = findProgram(requirement.program)
  return path === null || requirement.present?.(path) === false
}

/** @param {{ tests: boolean }} scope */
export function missingPackages(scope) {
  const wanted = [...ENGINE_REQUIREMENTS, ...(scope.tests ? TEST_REQUIREMENTS : [])]
  return wanted.filter(isMissing)
}

/** @param {Requirement[]} missing */
export async function installPackages(missing) {
  const host = distribution()
  const names = [...new Set(missing.map((requirement) => requirement.package))]
  if (findProgram('apt-get') === null) {
    throw new SetupError(`missing programs: ${missing.map((item) => item.program).join(', ')}`, {
      hint: `this set-up knows apt only; on ${host.prettyName} install what provides them (Debian names: ${names.join(' ')})`,
    })
  }
  const needsBackports = host.codename === 'bookworm' && missing.some((requirement) => requirement.backports)
  const backports = needsBackports ? backportsStanza(configuredSources(), host.codename) : null
  if (needsBackports && backports?.present === false && backports.stanza === null) {
    throw new SetupError(`apt has no source for Debian ${host.codename}, so its backports cannot be added`, {
      hint: `add a source for ${host.codename}-backports to /etc/apt, then run this again`,
    })
  }
  const targets = missing
    .flatMap(({ package: name, backports: late }) =>
      late !== undefined && needsBackports ? late.map((each) => `${each}/${host.codename}-backports`) : [name],
    )
    .filter((target, index, all) => all.indexOf(target) === index)
  if (!isRoot())
    throw new SetupError(`missing packages: ${names.join(' ')}`, { hint: manualCommands(targets, backports) })

  for (const item of missing) say(`needs ${item.package} for ${item.why}`)
  if (backports?.stanza) {
    say(
      `adding ${host.codename}-backports of ${backports.uri} as ${BACKPORTS_FILE} (${host.codename} itself is too old)`,
    )
    writeFileSync(BACKPORTS_FILE, backports.stanza)
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' }
  const options = {
    env,
    deadlineMs: APT_DEADLINE_MS,
    hint: 'see the lines above; run `apt-get update` by hand to look closer',
  }
  const common = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3', '-y']
  await step('apt-get update', { download: true }, async () => {
    try {
      await run('apt-get', [...common, 'update'], options)
    } catch (error) {
      // One broken source of somebody else is no reason to stop: what matters is whether our packages are found.
      if (!(error instanceof SetupError)) throw error
      say(error.message)
    }
  })
  const install = ['install', '--no-install-recommends', '--no-remove', ...targets]
  say(`apt-get ${install.join(' ')}`)
  await step('system packages', { download: true }, () =>
    run('apt-get', [...common, '--download-only', ...install], options),
  )
  const output = await step('system packages, unpack and configure', {}, () =>
    run('apt-get', [...common, ...install], options),
  )
  const installed = [...output.matchAll(/^Setting up (\S+?)(?::\w+)? \((\S+)\)/gm)].map(
    (match) => `${match[1]} ${match[2]}`,
  )
  say(`installed: ${installed.join(', ')}`)

  const still = missing.filter(isMissing)
  if (still.length > 0) {
    throw new SetupError(`after installing, still missing or too old: ${still.map((item) => item.program).join(', ')}`)
  }
}

/**
 * @param {string[]} targets
 * @param {{ stanza: string | null } | null} backports
 */
function manualCommands(targets, backports) {
  const lines = []
  if (backports?.stanza) {
    lines.push(`printf '${backports.stanza.replaceAll('\n', '\\n')}' | sudo tee ${BACKPORTS_FILE}`)
  }
  lines.push(`sudo apt-get update && sudo apt-get install -y --no-install-recommends ${targets.join(' ')}`)
  return `as root:\n${lines.map((line) => `  ${line}`).join('\n')}`
}
