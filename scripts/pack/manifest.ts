/** The parts of a package.json that packing looks at. */
export interface Manifest {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly private?: boolean
  readonly bin?: Readonly<Record<string, string>>
  readonly exports?: Readonly<Record<string, string>>
  readonly files?: readonly string[]
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: unknown
  readonly scripts?: unknown
}

/** What is published instead of the manifest of the checkout: exports name the built files, nothing speaks of the repository. */
export function publishedManifest(manifest: Manifest): object {
  const { devDependencies: _tools, scripts: _scripts, exports = {}, ...kept } = manifest
  const built = Object.entries(exports).map(
    ([subpath, source]) => [subpath, builtExport(manifest.name, source)] as const,
  )
  return {
    ...kept,
    ...(built.length === 0 ? {} : { exports: Object.fromEntries(built) }),
    os: ['linux'],
  }
}

/** A program of plain JavaScript is published as it is. */
function builtExport(name: string, source: string): string | { types: string; default: string } {
  if (source.startsWith('./bin/')) return source
  const stem = /^\.\/src\/(.+)\.ts$/.exec(source)?.[1]
  if (stem === undefined) throw new Error(`${name} exports ${source}, which is no TypeScript file below src/`)
  return { types: `./dist/${stem}.d.ts`, default: `./dist/${stem}.js` }
}
