import { createHash } from 'node:crypto'

/** What is built from a Debian mirror. Anything here that changes what comes out changes the recipe's hash. */
export interface Recipe {
  readonly name: string
  readonly description: string
  readonly suite: string
  /** Beyond the essential ones and apt. */
  readonly packages: readonly string[]
  /** Null: a root filesystem. Else packages are unpacked, not installed, and only files like these are kept (find -path). */
  readonly only: readonly string[] | null
}

const BASE: readonly string[] = []
const STANDARD = [
  'ca-certificates',
  'curl',
  'git',
  'less',
  'patch',
  'procps',
  'python3',
  'python3-pip',
  'python3-venv',
  'unzip',
  'xz-utils',
]
const BUILD = [...STANDARD, 'build-essential', 'pkg-config']

/** Left out of every package, as Debian's slim images do: documents and translations. Licences stay. */
export const LEFT_OUT: readonly string[] = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
]

/** Raised when the way of building changes although no recipe does. */
const BUILD_VERSION = 2

export const CATALOG: readonly Recipe[] = [
  { name: 'debian:12-base', description: 'Debian 12, minimal', suite: 'bookworm', packages: BASE, only: null },
  {
    name: 'debian:12',
    description: 'Debian 12 with git, curl, procps, patch, less, unzip, xz-utils, python3 with venv and pip',
    suite: 'bookworm',
    packages: STANDARD,
    only: null,
  },
  {
    name: 'debian:12-build',
    description: 'Debian 12 like debian:12, with build-essential and pkg-config',
    suite: 'bookworm',
    packages: BUILD,
    only: null,
  },
]

export const recipeOf = (name: string): Recipe | null => CATALOG.find((recipe) => recipe.name === name) ?? null

/** Debian's name of this machine's architecture. */
export const debianArchitecture = (arch: string = process.arch): string => (arch === 'x64' ? 'amd64' : arch)

/** As OCI images say it. */
export const ociPlatform = (arch: string = process.arch): string => `linux/${debianArchitecture(arch)}`

/** Names a built archive in a cache that several homes share. */
export const recipeKey = (recipe: Recipe, architecture: string): string => {
  const content = [BUILD_VERSION, architecture, recipe.suite, recipe.packages, LEFT_OUT, ...(recipe.only ?? [])]
  const hash = createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16)
  return `${recipe.name.replaceAll(/[^a-z0-9.-]/g, '_')}-${hash}`
}
