import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import {
  ERRORS,
  isAbsent,
  LOCAL_COMMANDS,
  MCP_PROFILES,
  OPERATIONS,
  type CliFacet,
  type ErrorCode,
  type Operation,
} from '@pyro/protocol'
import { Commands, Engine, Environments, Files, Pyro, Snapshots, Workspace, Workspaces } from '@pyro/sdk'

const operations: readonly Operation[] = Object.values(OPERATIONS)
const named = operations.map((operation) => [operation.id, operation] as const)

/** Any operation may answer these; they stand in no list of their own. */
const ENGINE_WIDE: readonly ErrorCode[] = [
  'input.invalid',
  'request.cancelled',
  'engine.unreachable',
  'engine.not-installed',
  'engine.version-mismatch',
  'state.too-new',
  'state.lost',
  'internal',
]
/** Clients answer these before or after they talk to the engine. */
const CLIENT_SIDE: readonly ErrorCode[] = [
  'host-path.not-allowed',
  'path.unreadable',
  'path.unwritable',
  'command.failed',
]

const fieldsOf = (schema: z.ZodType): readonly string[] => {
  if (!(schema instanceof z.ZodObject)) throw new Error('the input of an operation is an object')
  return Object.keys(schema.shape)
}

const duplicates = (texts: readonly string[]): readonly string[] =>
  texts.filter((text, index) => texts.indexOf(text) !== index)

describe.each(named)('%s', (id, operation) => {
  const fields = fieldsOf(operation.input)

  test('is on every surface, or says why not', () => {
    expect(OPERATIONS[id as keyof typeof OPERATIONS]).toBe(operation)
    for (const facet of [operation.http, operation.sdk, operation.cli, operation.mcp]) {
      expect(isAbsent(facet) ? facet.absent : 'present').toMatch(/\w{4,}/)
    }
    expect(operation.summary).toMatch(/^[A-Z].*[^.]$/)
  })

  test('refuses unknown fields on HTTP and MCP', () => {
    const inputs = [operation.input, ...(isAbsent(operation.mcp) ? [] : [operation.mcp.input ?? operation.input])]
    for (const input of inputs) {
      const issues = input.safeParse({ unexpected: 1 }).error?.issues ?? []
      expect(issues.map(({ code }) => code)).toContain('unrecognized_keys')
    }
  })

  test('takes from its path, flags and arguments only fields of its input', () => {
    const inPath = isAbsent(operation.http)
      ? []
      : [...operation.http.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    const ofCli = isAbsent(operation.cli)
      ? []
      : [...operation.cli.positionals, ...operation.cli.options].flatMap(({ field }) => (field === null ? [] : [field]))
    expect(fields).toEqual(expect.arrayContaining([...inPath, ...ofCli]))
  })

  test('carries bytes only as a stream', () => {
    const carries = operation.upload !== undefined || operation.download !== undefined || operation.event !== undefined
    expect(carries ? operation.kind : 'any').toMatch(/^(stream|any)$/)
  })

  test('names each error once, and none that any operation can answer', () => {
    expect(duplicates(operation.errors)).toEqual([])
    expect(operation.errors.filter((code) => ENGINE_WIDE.includes(code))).toEqual([])
  })
})

const commandLines: readonly (readonly [string, CliFacet])[] = [
  ...operations.flatMap(({ id, cli }) => (isAbsent(cli) ? [] : [[id, cli] as const])),
  ...LOCAL_COMMANDS.map(({ id, cli }) => [id, cli] as const),
]

describe('the command line', () => {
  test('has one command for each sequence of words', () => {
    expect(duplicates(commandLines.map(([, { words }]) => words.join(' ')))).toEqual([])
  })

  test.each(commandLines)('%s has flags of its own, in kebab-case, and an example that calls it', (_, cli) => {
    expect(duplicates(cli.options.map(({ flag }) => flag))).toEqual([])
    expect(duplicates(cli.options.flatMap(({ short }) => (short === undefined ? [] : [short])))).toEqual([])
    for (const { flag } of cli.options) expect(flag).toMatch(/^[a-z]+(-[a-z]+)*$/)
    expect(cli.examples.map(({ line }) => line).join('\n')).toContain(`pyro ${cli.words.join(' ')}`)
  })
})

describe('HTTP', () => {
  test('has one route for each method and path', () => {
    const routes = operations.flatMap(({ http }) =>
      isAbsent(http) ? [] : [`${http.method} ${http.path.replaceAll(/\{\w+\}/g, '{}')}`],
    )
    expect(duplicates(routes)).toEqual([])
    expect(routes.filter((route) => !/^[A-Z]+ \/v1\//.test(route))).toEqual([])
  })
})

describe('the SDK', () => {
  const handles: Readonly<Record<string, object>> = {
    '': Pyro.prototype,
    workspaces: Workspaces.prototype,
    environments: Environments.prototype,
    engine: Engine.prototype,
    workspace: Workspace.prototype,
    'workspace.snapshots': Snapshots.prototype,
    'workspace.files': Files.prototype,
    'workspace.commands': Commands.prototype,
  }

  test.each(operations.flatMap(({ id, sdk }) => (isAbsent(sdk) ? [] : [[id, sdk.method] as const])))(
    '%s is the method %s',
    (_, method) => {
      const at = method.lastIndexOf('.')
      const handle = handles[method.slice(0, Math.max(0, at))]
      expect(handle, 'a handle of this name').toBeDefined()
      expect(typeof Object.getOwnPropertyDescriptor(handle, method.slice(at + 1))?.value).toBe('function')
    },
  )
})

describe('MCP', () => {
  test('has one tool for each name, all of them in the profile full', () => {
    const facets = operations.flatMap(({ mcp }) => (isAbsent(mcp) ? [] : [mcp]))
    expect(duplicates(facets.map(({ tool }) => tool))).toEqual([])
    expect(facets.filter(({ profiles }) => !profiles.includes('full'))).toEqual([])
    for (const profile of MCP_PROFILES) {
      const ofProfile = facets.filter(({ profiles }) => profiles.includes(profile))
      expect(ofProfile.length).toBe({ run: 1, core: 12, full: facets.length }[profile])
    }
  })
})

describe('errors', () => {
  test('are each answered by some operation, by any, or by a client', () => {
    const answered = new Set<ErrorCode>([...operations.flatMap(({ errors }) => errors), ...ENGINE_WIDE, ...CLIENT_SIDE])
    expect(Object.keys(ERRORS).filter((code) => !answered.has(code as ErrorCode))).toEqual([])
  })

  test('have a name of two parts, an HTTP status of an error and an exit code of their own kind', () => {
    for (const [code, { status, exit, summary }] of Object.entries(ERRORS)) {
      expect(code).toMatch(/^[a-z-]+(\.[a-z-]+)?$/)
      expect(status).toBeGreaterThanOrEqual(400)
      expect(exit).toBeGreaterThan(0)
      expect(exit).toBeLessThan(9)
      expect(summary).toMatch(/^[^.]+$/)
    }
  })
})
