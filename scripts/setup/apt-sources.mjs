// Finds the Debian mirror this host is configured for, in both formats of apt's source lists. The backports suite is
// taken from that same mirror: a host that was pointed at a local mirror must not be sent anywhere else.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isAbsent, readText } from './host.mjs'

/** @typedef {{ uri: string, suites: string[], components: string[], signedBy: string | null, trusted: boolean }} AptSource */

/**
 * @param {string} text of a `.list` file
 * @returns {AptSource[]}
 */
export function parseListFile(text) {
  /** @type {AptSource[]} */
  const sources = []
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)/.exec(line)
    if (!match) continue
    const [, options = '', uri = '', suite = '', components = ''] = match
    sources.push({
      uri,
      suites: [suite],
      components: components.trim().split(/\s+/).filter(Boolean),
      signedBy: /signed-by=(\S+)/i.exec(options)?.[1] ?? null,
      trusted: /trusted=yes/i.test(options),
    })
  }
  return sources
}

/**
 * @param {string} text of a `.sources` file (deb822 stanzas)
 * @returns {AptSource[]}
 */
export function parseSourcesFile(text) {
  /** @type {AptSource[]} */
  const sources = []
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
  for (const stanza of withoutComments.split(/\n\s*\n/)) {
    /** @type {Record<string, string>} */
    const fields = {}
    let field = ''
    for (const line of stanza.split('\n')) {
      const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line)
      if (match) {
        field = (match[1] ?? '').toLowerCase()
        fields[field] = match[2] ?? ''
      } else if (/^\s/.test(line) && field !== '') {
        // A continued field is an inline key when it is Signed-By: the lines must stay lines.
        fields[field] += `\n${line}`
      }
    }
    if (/^no$/i.test((fields.enabled ?? 'yes').trim())) continue
    if (!(fields.types ?? '').split(/\s+/).includes('deb')) continue
    for (const uri of (fields.uris ?? '').split(/\s+/).filter(Boolean)) {
      sources.push({
        uri,
        suites: (fields.suites ?? '').split(/\s+/).filter(Boolean),
        components: (fields.components ?? '').split(/\s+/).filter(Boolean),
        signedBy: fields['signed-by'] ?? null,
        trusted: /^yes$/i.test((fields.trusted ?? '').trim()),
      })
    }
  }
  return sources
}

/**
 * Every binary source of this host.
 * @param {string} [etcApt]
 * @returns {AptSource[]}
 */
export function configuredSources(etcApt = '/etc/apt') {
  const sources = parseListFile(readText(join(etcApt, 'sources.list')) ?? '')
  const folder = join(etcApt, 'sources.list.d')
  /** @type {string[]} */
  let names = []
  try {
    names = readdirSync(folder).sort()
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  for (const name of names) {
    if (name.endsWith('.list')) sources.push(...parseListFile(readText(join(folder, name)) ?? ''))
    if (name.endsWith('.sources')) sources.push(...parseSourcesFile(readText(join(folder, name)) ?? ''))
  }
  return sources
}

/**
 * The source stanza that adds a release's backports from the mirror the release itself comes from; null when it is
 * there already or when the mirror is not known.
 * @param {AptSource[]} sources
 * @param {string} codename
 * @returns {{ present: boolean, stanza: string | null, uri: string | null }}
 */
export function backportsStanza(sources, codename) {
  const suite = `${codename}-backports`
  if (sources.some((source) => source.suites.includes(suite))) return { present: true, stanza: null, uri: null }
  const release = sources.find((source) => source.suites.includes(codename) && source.components.includes('main'))
  if (release === undefined) return { present: false, stanza: null, uri: null }
  const lines = ['Types: deb', `URIs: ${release.uri}`, `Suites: ${suite}`, 'Components: main']
  if (release.signedBy !== null) lines.push(`Signed-By: ${release.signedBy}`)
  if (release.trusted) lines.push('Trusted: yes')
  return { present: false, stanza: `${lines.join('\n')}\n`, uri: release.uri }
}
