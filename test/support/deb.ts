import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** What the package installs and what says that it is there. */
export const PACKAGE = { name: 'pyro-demo', program: '/usr/bin/pyro-demo', settings: '/etc/pyro-demo.conf' } as const

/** Builds a tiny Debian package with a program, a conffile and scripts into `folder`, and names the file. */
export const buildDeb = (folder: string): string => {
  const root = join(folder, 'deb')
  const put = (path: string, text: string, mode: number): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
    chmodSync(join(root, path), mode)
  }
  const control = {
    Package: PACKAGE.name,
    Version: '1.2-3',
    Architecture: 'all',
    Maintainer: 'Nobody <nobody@example.org>',
    Description: 'shows that packages are part of a disk',
  }
  const fields = Object.entries(control).map(([name, value]) => `${name}: ${value}\n`)
  put('DEBIAN/control', fields.join(''), 0o644)
  put('DEBIAN/conffiles', `${PACKAGE.settings}\n`, 0o644)
  put(
    'DEBIAN/postinst',
    '#!/bin/sh\nset -e\nmkdir -p /var/lib/pyro-demo\necho configured > /var/lib/pyro-demo/state\n',
    0o755,
  )
  put('DEBIAN/postrm', '#!/bin/sh\nrm -rf /var/lib/pyro-demo\n', 0o755)
  put(PACKAGE.program, '#!/bin/sh\ncat /etc/pyro-demo.conf /var/lib/pyro-demo/state\n', 0o755)
  put(PACKAGE.settings, 'setting\n', 0o644)
  const file = join(folder, `${PACKAGE.name}.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', root, file], { stdio: 'ignore' })
  return file
}
