import { fixture, matchLines, type Rule } from '../sources.ts'

const HOME_FOLDERS = '/(?:home|Users)/\\w+/'
const REGISTRY = 'https?://(?:registry\\.|[\\w.-]*(?:artifactory|artifactregistry|nexus|verdaccio)[\\w.-]*)'
const SECRETS = [
  '-----BEGIN [A-Z ]*PRIVATE KEY-----',
  '\\bAKIA[0-9A-Z]{16}\\b',
  '\\bgh[pousr]_[A-Za-z0-9]{36}',
  '\\bnpm_[A-Za-z0-9]{36}',
  '\\bsk-[a-z]{2,5}-[A-Za-z0-9_-]{32}',
  '\\bxox[abprs]-[A-Za-z0-9-]{10}',
]

const notHere = (path: string): boolean => !path.startsWith('test/tidy/')

export const traceRules: readonly Rule[] = [
  {
    name: 'no tracked file names a machine it was written on',
    check: (files) => matchLines(files, notHere, new RegExp(HOME_FOLDERS), "somebody's home"),
    caught: [fixture('docs/install.md', 'see /home/alice/pyro'), fixture('docs/install.md', 'see /Users/alice/pyro')],
    allowed: [fixture('docs/install.md', 'files are seeded to /workspace; logs in /var/lib/pyro, or ~/.local')],
  },
  {
    name: 'no tracked file names a package registry',
    check: (files) => matchLines(files, notHere, new RegExp(REGISTRY, 'i'), 'a registry host'),
    caught: [fixture('package-lock.json', '"resolved": "https://registry.npmjs.org/zod"')],
    allowed: [fixture('docs/install.md', 'https://www.npmjs.com/package/zod')],
  },
  {
    name: 'no tracked file holds a secret',
    check: (files) => matchLines(files, notHere, new RegExp(SECRETS.join('|')), 'looks like a secret'),
    caught: [
      fixture('a.pem', '-----BEGIN RSA PRIVATE KEY-----'),
      fixture('a.ts', `const token = 'ghp_${'a1B2'.repeat(9)}'`),
      fixture('a.ts', `const key = 'AKIA${'ABCD'.repeat(4)}'`),
    ],
    allowed: [fixture('a.md', 'npm_config_registry')],
  },
]
