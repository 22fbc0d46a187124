import { REQUIREMENTS } from '../../packages/driver-testkit/src/requirements.ts'
import type { SourceFile } from './sources.ts'

/** `onEveryDriver('reset.queued', …)` */
const CITATION = /\bonEveryDriver\(\s*(['"`])([^'"`]+)\1/g

const isSuite = (path: string): boolean => path.startsWith('test/') && path.endsWith('.test.ts')

/** Requirements of the manifest that no test cites. */
export function uncited(files: readonly SourceFile[], ids: readonly string[] = Object.keys(REQUIREMENTS)): string[] {
  const cited = new Set(
    files.filter(({ path }) => isSuite(path)).flatMap(({ text }) => [...text.matchAll(CITATION)].map(([, , id]) => id)),
  )
  return ids.filter((id) => !cited.has(id))
}
