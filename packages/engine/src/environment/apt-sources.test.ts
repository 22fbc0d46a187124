import assert from 'node:assert/strict'
import { describe, test } from 'vitest'
import { debianMirror, parseListFile, parseSourcesFile, publicSources } from './apt-sources.ts'

const KEY = '-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n-----END PGP PUBLIC KEY BLOCK-----'

describe('the sources of the host', () => {
  test('one-line sources are read with their options; comments and source packages are not', () => {
    const text = [
      '# deb http://old.example/debian bookworm main',
      'deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://m.example/debian bookworm main contrib # here',
      'deb-src http://m.example/debian bookworm main',
      'deb http://m.example/debian bookworm-updates main',
    ].join('\n')
    assert.deepEqual(parseListFile(text), [
      {
        uri: 'http://m.example/debian',
        suites: ['bookworm'],
        components: ['main', 'contrib'],
        signedBy: '/k.gpg',
        trusted: true,
      },
      {
        uri: 'http://m.example/debian',
        suites: ['bookworm-updates'],
        components: ['main'],
        signedBy: null,
        trusted: false,
      },
    ])
  })

  test('deb822 stanzas are read: several URIs, disabled ones left out, an inline key kept', () => {
    const indented = KEY.split('\n')
      .map((line) => (line === '' ? ' .' : ` ${line}`))
      .join('\n')
    const text = `Types: deb deb-src\nURIs: http://a.example/debian http://b.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n# note\nSigned-By:\n${indented}\n\nTypes: deb\nEnabled: no\nURIs: http://c.example\nSuites: x\nComponents: main\n`
    const sources = parseSourcesFile(text)
    assert.deepEqual(
      sources.map(({ uri }) => uri),
      ['http://a.example/debian', 'http://b.example/debian'],
    )
    assert.deepEqual(sources[0]?.suites, ['bookworm', 'bookworm-updates'])
    assert.equal(sources[0]?.signedBy, KEY)
  })

  test('a host that was pointed at a mirror is sent nowhere else', () => {
    const sources = parseListFile(
      'deb http://third.example/node nodistro main\ndeb http://m.example/debian trixie main',
    )
    const mirror = debianMirror(sources, null)
    assert.equal(mirror.main.uri, 'http://m.example/debian')
    assert.equal(mirror.security, null)
  })

  test('security updates come from where the host gets them', () => {
    const sources = parseListFile(
      'deb http://m.example/debian bookworm main\ndeb http://s.example/sec bookworm-security main',
    )
    assert.equal(debianMirror(sources, null).security?.uri, 'http://s.example/sec')
  })

  test('a host without Debian sources uses the public mirror, and a mirror that is named wins', () => {
    const ubuntu = parseListFile('deb http://archive.example/ubuntu noble main')
    assert.match(debianMirror(ubuntu, null).main.uri, /^http:\/\/deb\.debian\.org\//)
    assert.equal(debianMirror(ubuntu, 'http://mine.example/debian').main.uri, 'http://mine.example/debian')
  })

  test('an environment looks for packages on the public mirror, wherever it was built from', () => {
    const sources = parseSourcesFile(publicSources('bookworm', '/k.gpg'))
    assert.deepEqual(
      sources.map(({ uri, suites }) => [uri, suites]),
      [
        ['http://deb.debian.org/debian', ['bookworm', 'bookworm-updates']],
        ['http://deb.debian.org/debian-security', ['bookworm-security']],
      ],
    )
  })
})
