import { expect, test } from 'vitest'
import { backportsStanza, parseListFile, parseSourcesFile } from './apt-sources.mjs'

test('a one-line source gives mirror, suite, components and key', () => {
  const sources = parseListFile(
    '# comment\ndeb [arch=amd64 signed-by=/usr/share/keyrings/d.gpg] http://mirror.example/debian bookworm main contrib # here\ndeb-src http://x y z\n',
  )
  expect(sources).toEqual([
    {
      uri: 'http://mirror.example/debian',
      suites: ['bookworm'],
      components: ['main', 'contrib'],
      signedBy: '/usr/share/keyrings/d.gpg',
      trusted: false,
    },
  ])
})

test('a deb822 source may name several mirrors and suites; a disabled one does not count', () => {
  const sources = parseSourcesFile(
    'Types: deb deb-src\n# snapshot\nURIs: http://a.example/debian mirror+file:/etc/apt/mirrors\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By:\n -----KEY-----\n .\n abc\n\nTypes: deb\nURIs: http://b.example\nSuites: bookworm\nComponents: main\nEnabled: no\n',
  )
  expect(sources.map((source) => source.uri)).toEqual(['http://a.example/debian', 'mirror+file:/etc/apt/mirrors'])
  expect(sources[0]?.suites).toEqual(['bookworm', 'bookworm-updates'])
  expect(sources[0]?.signedBy).toBe('\n -----KEY-----\n .\n abc')
})

test('backports come from the mirror of the release, with its key', () => {
  const sources = [
    ...parseListFile('deb http://security.example/debian-security bookworm-security main\n'),
    ...parseSourcesFile(
      'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n',
    ),
  ]
  expect(backportsStanza(sources, 'bookworm')).toEqual({
    present: false,
    uri: 'http://mirror.example/debian',
    stanza:
      'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /k.gpg\n',
  })
})

test('backports that are configured are not added again, and an unknown mirror is not invented', () => {
  const configured = parseListFile('deb http://mirror.example/debian bookworm-backports main\n')
  expect(backportsStanza(configured, 'bookworm')).toEqual({ present: true, stanza: null, uri: null })
  expect(backportsStanza([], 'bookworm')).toEqual({ present: false, stanza: null, uri: null })
})
