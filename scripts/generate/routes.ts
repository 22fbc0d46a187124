import { isAbsent, type Operation } from '../../packages/protocol/src/index.ts'

export interface RoutesInput {
  readonly operations: readonly Operation[]
  /** Version of the packages: what client and engine compare. */
  readonly version: string
}

/** Source of `packages/sdk/src/generated/routes.ts`: how each operation travels over HTTP. */
export const emitRoutes = ({ operations, version }: RoutesInput): string => {
  const rows = operations.flatMap((operation) => {
    if (isAbsent(operation.http)) return []
    const route = {
      method: operation.http.method,
      path: operation.http.path,
      kind: operation.kind,
      upload: operation.upload?.frame ?? null,
      mutates: operation.mutates,
    }
    return [`  ${JSON.stringify(operation.id)}: ${JSON.stringify(route)},`]
  })
  return [
    '// Generated from packages/protocol by `npm run generate`. Do not edit.',
    `import type { OperationId } from '@pyro/protocol'`,
    '',
    `export const VERSION = ${JSON.stringify(version)}`,
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
    '',
  ].join('\n')
}
