// Import directions. Written here because the usual tool reads TypeScript through the JavaScript API of the compiler, which
// TypeScript 7 does not have.
import { builtinModules } from 'node:module'
import { posix } from 'node:path'
import { parseSync } from 'oxc-parser'
import { builtins, engineRoots, layers } from './layers.ts'
import { isTest, type SourceFile, type Violation } from './sources.ts'

interface Import {
  readonly specifier: string
  readonly line: number
}

/** Every violation of the layers in the sources of the packages. Tests may import across, never from outside the packages in. */
export function boundaryViolations(files: readonly SourceFile[]): Violation[] {
  return files
    .filter(({ path }) => /^packages\/[^/]+\/src\/.*\.ts$/.test(path) && !isTest(path))
    .flatMap((file) => importsOf(file).flatMap((found) => judge(file.path, found)))
}

export function importsOf(file: SourceFile): Import[] {
  const { module, errors } = parseSync(file.path, file.text)
  if (errors.length > 0) throw new Error(`${file.path} does not parse: ${errors[0]?.message}`)
  const at = (specifier: string, start: number): Import => ({
    specifier,
    line: file.text.slice(0, start).split('\n').length,
  })
  return [
    ...module.staticImports.map(({ moduleRequest }) => at(moduleRequest.value, moduleRequest.start)),
    ...module.staticExports.flatMap(({ entries }) =>
      entries.flatMap(({ moduleRequest }) =>
        moduleRequest === null || moduleRequest === undefined ? [] : [at(moduleRequest.value, moduleRequest.start)],
      ),
    ),
    ...module.dynamicImports.flatMap(({ moduleRequest }) => {
      const source = file.text.slice(moduleRequest.start, moduleRequest.end)
      const literal = /^(['"`])([^$]*)\1$/.exec(source)?.[2]
      return literal === undefined ? [] : [at(literal, moduleRequest.start)]
    }),
  ]
}

function judge(from: string, { specifier, line }: Import): Violation[] {
  const violation = (message: string): Violation[] => [{ path: from, line, message: `${specifier}: ${message}` }]
  const source = partOf(from)
  if (source === null) return violation('this folder has no place in test/tidy/layers.ts yet')
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) {
    const allowed = builtins[source]
    return allowed === undefined || allowed.includes(specifier) ? [] : violation(`${source} has no I/O`)
  }
  const target = resolve(from, specifier)
  if (target === null) return []
  if (!target.startsWith('packages/')) return violation('a package imports nothing from outside packages/')
  if (packageOf(target) !== packageOf(from) && specifier.startsWith('.')) {
    return violation('another package is imported by its name')
  }
  if (engineRoots.includes(from)) return []
  if (engineRoots.includes(target) && packageOf(from) === 'engine')
    return violation('nothing inside the engine imports its roots')
  return driverViolation(from, target, violation) ?? layerViolation(source, target, violation)
}

/** What every driver whose sandboxes are host processes has in common; no driver itself. */
const SHARED_BY_DRIVERS: ReadonlySet<string> = new Set(['monitored', 'microvm'])

/** Drivers are siblings that do not know each other; the list of them is the only place that names them. */
function driverViolation(
  from: string,
  target: string,
  violation: (message: string) => Violation[],
): Violation[] | null {
  const folder = /^packages\/engine\/src\/drivers\/([^/]+)\//
  const sourceDriver = folder.exec(from)?.[1]
  const targetDriver = folder.exec(target)?.[1]
  if (targetDriver === undefined || sourceDriver === targetDriver) return null
  if (from === 'packages/engine/src/drivers/index.ts' || SHARED_BY_DRIVERS.has(targetDriver)) return null
  return violation('only drivers/index.ts names drivers')
}

function layerViolation(source: string, target: string, violation: (message: string) => Violation[]): Violation[] {
  const targetPart = partOf(target)
  if (targetPart === null) return violation('the target has no place in test/tidy/layers.ts yet')
  if (targetPart === source) return []
  const allowed = layers[source]?.imports ?? []
  const targetName = targetPart === 'engine/root' ? 'engine' : targetPart
  return allowed.includes(targetName)
    ? []
    : violation(`${source} does not import ${targetName} (${layers[source]?.reason})`)
}

function packageOf(path: string): string {
  return path.split('/')[1] ?? ''
}

/** `engine/disk`, `sdk`, `engine/root` for the roots of the engine; null for a folder nobody placed. */
function partOf(path: string): string | null {
  const name = packageOf(path)
  if (name !== 'engine') return name in layers ? name : null
  if (engineRoots.includes(path)) return 'engine/root'
  const part = `engine/${path.split('/')[3] ?? ''}`
  return part in layers ? part : null
}

/** The file an import means; null for a package of somebody else. */
function resolve(from: string, specifier: string): string | null {
  if (specifier.startsWith('.')) return posix.normalize(posix.join(posix.dirname(from), specifier))
  const own = /^@pyro\/([^/]+)/.exec(specifier)?.[1]
  return own === undefined ? null : `packages/${own}/src/index.ts`
}
