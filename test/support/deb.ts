import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** What the package installs and what says that it is there. */
export const PACKAGE = { name: 'pyro-demo', program: '/usr/bin/pyro-demo', settings: '/etc/pyro-demo.conf' } as const

/** Makes a Debian package of a folder, beside it, and names the file. */
export const packDeb = (root: string, name: string): string => {
  const control = {
    Package: name,
    Version: '1.2-3',
    Architecture: 'all',
    Maintainer: 'Nobody <nobody@example.org>',
    Description: 'for tests',
  }
  const fields = Object.entries(control).map(([field, value]) => `${field}: ${value}\n`)
  mkdirSync(join(root, 'DEBIAN'), { recursive: true })
  writeFileSync(join(root, 'DEBIAN', 'control'), fields.join(''), { mode: 0o644 })
  const file = join(dirname(root), `${name}.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', '-z1', root, file], { stdio: 'ignore' })
  return file
}

/** Builds a tiny Debian package with a program, a conffile and scripts into `folder`, and names the file. */
export const buildDeb = (folder: string): string => {
  const root = join(folder, 'deb')
  const put = (path: string, text: string, mode: number): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
    chmodSync(join(root, path), mode)
  }
  put('DEBIAN/conffiles', `${PACKAGE.settings}\n`, 0o644)
  put(
    'DEBIAN/postinst',
    '#!/bin/sh\nset -e\nmkdir -p /var/lib/pyro-demo\necho configured > /var/lib/pyro-demo/state\n',
    0o755,
  )
  put('DEBIAN/postrm', '#!/bin/sh\nrm -rf /var/lib/pyro-demo\n', 0o755)
  put(PACKAGE.program, '#!/bin/sh\ncat /etc/pyro-demo.conf /var/lib/pyro-demo/state\n', 0o755)
  put(PACKAGE.settings, 'setting\n', 0o644)
  return packDeb(root, PACKAGE.name)
}
