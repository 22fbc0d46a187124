import { isAbsent, OPERATIONS, type Operation } from '@pyro/protocol'
import { formatted, packageVersion, type GeneratedFile } from './generated-file.ts'

/** How each operation travels over HTTP: what the SDK knows of the contract at run time. */
export const routes = async (): Promise<GeneratedFile> => {
  const operations: readonly Operation[] = Object.values(OPERATIONS)
  const rows = operations.flatMap(({ id, http, kind, upload, mutates }) =>
    isAbsent(http)
      ? []
      : [`  ${JSON.stringify(id)}: ${JSON.stringify({ ...http, kind, upload: upload?.frame ?? null, mutates })},`],
  )
  const text = [
    '// Generated from packages/protocol by `npm run generate`. Do not edit.',
    `import type { OperationId } from '@pyro/protocol'`,
    '',
    '/** Sent with every call; an engine of another version refuses. */',
    `export const VERSION = ${JSON.stringify(await packageVersion())}`,
    '',
    'export interface Route {',
    `  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'`,
    '  readonly path: string',
    `  readonly kind: 'unary' | 'stream'`,
    `  readonly upload: 'data' | 'stdin' | 'data+stdin' | null`,
    '  readonly mutates: boolean',
    '}',
    '',
    'export const ROUTES: Readonly<Record<OperationId, Route>> = {',
    ...rows,
    '}',
  ].join('\n')
  return formatted('packages/sdk/src/generated/routes.ts', text, 'typescript')
}
