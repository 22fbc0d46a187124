import { z } from 'zod'
import { isAbsent, OPERATIONS, type McpFacet, type McpProfile, type Operation, type OperationId } from '@pyro/protocol'

/** One entry of `tools/list`, as it goes over the wire. */
export interface ToolDefinition {
  readonly name: string
  readonly description: string
  readonly inputSchema: JsonObject
  readonly annotations: ToolAnnotations
}

export interface ToolAnnotations {
  readonly readOnlyHint: boolean
  readonly destructiveHint?: boolean
  readonly openWorldHint: boolean
}

export interface JsonObject {
  readonly [key: string]: unknown
}

/** A tool of the contract: the operation it comes from, and what checks its arguments. */
export interface ToolSource {
  readonly id: OperationId
  readonly operation: Operation
  readonly facet: McpFacet
  readonly input: z.ZodType
}

/** Schema keywords that tell a model nothing: the bounds of safe integers and the dialect. */
const isNoise = (key: string, value: unknown): boolean =>
  key === '$schema' ||
  key === 'propertyNames' ||
  (key === 'maximum' && value === Number.MAX_SAFE_INTEGER) ||
  (key === 'minimum' && value === Number.MIN_SAFE_INTEGER)

const withoutNoise = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(withoutNoise)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, inner]) => !isNoise(key, inner))
      .map(([key, inner]) => [key, withoutNoise(inner)]),
  )
}

export const toolSources = (profile: McpProfile): readonly ToolSource[] =>
  (Object.entries(OPERATIONS) as [OperationId, Operation][]).flatMap(([id, operation]) => {
    const facet = operation.mcp
    if (isAbsent(facet) || !facet.profiles.includes(profile)) return []
    return [{ id, operation, facet, input: facet.input ?? operation.input }]
  })

const annotationsOf = ({ operation, facet }: ToolSource): ToolAnnotations => {
  const readOnly = facet.readOnly ?? !operation.mutates
  // The world of a tool is the workspace: it reaches no open network by itself.
  if (readOnly) return { readOnlyHint: true, openWorldHint: false }
  return { readOnlyHint: false, destructiveHint: facet.destructive ?? false, openWorldHint: false }
}

const definitionsOf = (profile: McpProfile): readonly ToolDefinition[] =>
  toolSources(profile).map((source) => ({
    name: source.facet.tool,
    description: source.facet.description ?? source.operation.summary,
    inputSchema: withoutNoise(z.toJSONSchema(source.input, { io: 'input' })) as JsonObject,
    annotations: annotationsOf(source),
  }))

const DEFINITIONS = new Map<McpProfile, readonly ToolDefinition[]>()

/** What `tools/list` answers in a profile, in the order of the contract. Made once: over HTTP each session has a server. */
export const toolDefinitions = (profile: McpProfile): readonly ToolDefinition[] => {
  const known = DEFINITIONS.get(profile)
  if (known !== undefined) return known
  const definitions = definitionsOf(profile)
  DEFINITIONS.set(profile, definitions)
  return definitions
}

/** Server instructions: what a host may add to the model's context once. */
export const INSTRUCTIONS =
  'Work in a workspace, not on the host: create one, exec in it. Take a snapshot before a risky step; when something breaks, reset instead of repairing. Hand the result back with workspace_diff or workspace_export.'
