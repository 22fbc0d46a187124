import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../process/identity.ts'

/** One binary source of the host's apt, in either of its two formats. */
export interface AptSource {
  readonly uri: string
  readonly suites: readonly string[]
  readonly components: readonly string[]
  /** Path or fingerprint, or the armoured key itself. */
  readonly signedBy: string | null
  readonly trusted: boolean
}

/** Where the suites of a release come from. */
export interface DebianMirror {
  readonly main: AptSource
  /** Null: the host has none configured. */
  readonly security: AptSource | null
}

const DEFAULT_MAIN_URI = 'http://deb.debian.org/debian'
const DEFAULT_SECURITY_URI = 'http://deb.debian.org/debian-security'
/** Debian releases whose mirror also serves the ones we build, when the host itself runs one of them. */
const DEBIAN_SUITES = /^(bullseye|bookworm|trixie|forky|sid|stable|oldstable|testing|unstable)$/
const SECURITY_SUITES = /^(bullseye|bookworm|trixie|forky|stable|oldstable|testing)(-security|\/updates)$/

/** A `.list` file. */
export const parseListFile = (text: string): AptSource[] =>
  text.split('\n').flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)/.exec(line)
    if (match === null) return []
    const [, options = '', uri = '', suite = '', components = ''] = match
    return [
      {
        uri,
        suites: [suite],
        components: words(components),
        signedBy: /signed-by=(\S+)/i.exec(options)?.[1] ?? null,
        trusted: /trusted=yes/i.test(options),
      },
    ]
  })

/** A `.sources` file: deb822 stanzas. */
export const parseSourcesFile = (text: string): AptSource[] => {
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
  return withoutComments.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = stanzaFields(stanza)
    if (/^no$/i.test(fields.get('enabled') ?? 'yes')) return []
    if (!words(fields.get('types') ?? '').includes('deb')) return []
    return words(fields.get('uris') ?? '').map((uri) => ({
      uri,
      suites: words(fields.get('suites') ?? ''),
      components: words(fields.get('components') ?? ''),
      signedBy: fields.get('signed-by') ?? null,
      trusted: /^yes$/i.test(fields.get('trusted') ?? ''),
    }))
  })
}

/** Continued lines stay lines: an inline key is one. */
const stanzaFields = (stanza: string): Map<string, string> => {
  const fields = new Map<string, string>()
  let field = ''
  for (const line of stanza.split('\n')) {
    const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line)
    if (match !== null) {
      field = (match[1] ?? '').toLowerCase()
      fields.set(field, (match[2] ?? '').trim())
    } else if (/^\s/.test(line) && field !== '') {
      fields.set(field, `${fields.get(field) ?? ''}\n${line.trim() === '.' ? '' : line.trim()}`)
    }
  }
  return new Map([...fields].map(([name, value]) => [name, value.trim()]))
}

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean)

export const configuredSources = async (etcApt: string): Promise<AptSource[]> => {
  const sources = parseListFile(await textOf(join(etcApt, 'sources.list')))
  const folder = join(etcApt, 'sources.list.d')
  for (const name of (await namesOf(folder)).sort()) {
    if (name.endsWith('.list')) sources.push(...parseListFile(await textOf(join(folder, name))))
    if (name.endsWith('.sources')) sources.push(...parseSourcesFile(await textOf(join(folder, name))))
  }
  return sources
}

/**
 * Where this host gets Debian from. A host that was pointed at a mirror is sent nowhere else: without a security source of its own
 * it gets none. Only a host that has no Debian source at all uses the public mirror. `override` replaces the main one.
 */
export const debianMirror = (sources: readonly AptSource[], override: string | null): DebianMirror => {
  const main = sources.find(
    (source) => source.components.includes('main') && source.suites.some((suite) => DEBIAN_SUITES.test(suite)),
  )
  const security = sources.find(
    (source) => source.components.includes('main') && source.suites.some((suite) => SECURITY_SUITES.test(suite)),
  )
  if (override !== null) return { main: { ...(main ?? plain(override)), uri: override }, security: security ?? null }
  if (main === undefined) return { main: plain(DEFAULT_MAIN_URI), security: plain(DEFAULT_SECURITY_URI) }
  return { main, security: security ?? null }
}

const plain = (uri: string): AptSource => ({ uri, suites: [], components: ['main'], signedBy: null, trusted: false })

/**
 * What an environment's own apt is set to. Never the mirror it was built from: its address, path and credentials say more of this
 * host and its network than whoever works in an environment, or gets an image of one, has to know.
 */
export const publicSources = (suite: string, keyring: string): string => {
  const stanza = (uri: string, suites: string): string =>
    `Types: deb\nURIs: ${uri}\nSuites: ${suites}\nComponents: main\nSigned-By: ${keyring}\n`
  return [
    stanza(DEFAULT_MAIN_URI, `${suite} ${suite}-updates`),
    stanza(DEFAULT_SECURITY_URI, `${suite}-security`),
  ].join('\n')
}

const textOf = async (path: string): Promise<string> => {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw error
  }
}

const namesOf = async (path: string): Promise<string[]> => {
  try {
    return await readdir(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
