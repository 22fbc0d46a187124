import { fixture, type Rule, type SourceFile, type Violation } from '../sources.ts'

interface LockedPackage {
  readonly resolved?: string
  readonly link?: boolean
  readonly integrity?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/** The rules look at the lock file only. */
function locks(files: readonly SourceFile[]): { path: string; packages: Readonly<Record<string, LockedPackage>> }[] {
  return files
    .filter(({ path }) => path === 'package-lock.json')
    .map(({ path, text }) => ({
      path,
      packages: (JSON.parse(text) as { packages: Record<string, LockedPackage> }).packages,
    }))
}

function lock(packages: Record<string, LockedPackage>): readonly SourceFile[] {
  return fixture('package-lock.json', JSON.stringify({ packages }))
}

export const lockRules: readonly Rule[] = [
  {
    name: 'every locked package has a checksum and no download address',
    check: (files) =>
      locks(files).flatMap(({ path, packages }) =>
        Object.entries(packages)
          .filter(([name]) => name.includes('node_modules/'))
          .filter(([, entry]) => entry.link !== true && (entry.resolved !== undefined || entry.integrity === undefined))
          .map(([name]): Violation => ({ path, line: null, message: `${name}: resolved ${entry(packages, name)}` })),
      ),
    caught: [
      lock({ 'node_modules/a': { resolved: 'https://example.org/a.tgz', integrity: 'sha512-x' } }),
      lock({ 'node_modules/a': {} }),
    ],
    allowed: [
      lock({
        'node_modules/a': { integrity: 'sha512-x' },
        'node_modules/@pyro/sdk': { link: true, resolved: 'packages/sdk' },
      }),
    ],
  },
  {
    name: 'the lock names every optional package of every platform, or npm ci refuses it',
    check: (files) =>
      locks(files).flatMap(({ path, packages }) =>
        Object.entries(packages).flatMap(([name, { optionalDependencies = {} }]) =>
          Object.keys(optionalDependencies)
            .filter(
              (wanted) =>
                packages[`node_modules/${wanted}`] === undefined &&
                packages[`${name}/node_modules/${wanted}`] === undefined,
            )
            .map((wanted): Violation => ({ path, line: null, message: `${name || 'the root'} wants ${wanted}` })),
        ),
      ),
    caught: [lock({ 'node_modules/a': { integrity: 'x', optionalDependencies: { 'a-win32': '1.0.0' } } })],
    allowed: [
      lock({
        'node_modules/a': { integrity: 'x', optionalDependencies: { 'a-linux': '1.0.0' } },
        'node_modules/a-linux': { integrity: 'x' },
      }),
    ],
  },
]

function entry(packages: Readonly<Record<string, LockedPackage>>, name: string): string {
  return packages[name]?.resolved ?? 'without a checksum'
}
