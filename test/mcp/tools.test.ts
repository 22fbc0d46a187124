import { encode } from 'gpt-tokenizer/encoding/o200k_base'
import { describe, expect, it } from 'vitest'
import { INSTRUCTIONS, toolDefinitions } from '@pyro/mcp'
import { EngineServer } from '../sdk/engine-server.ts'
import { McpHost } from './mcp-host.ts'

/** What a model pays for the tools of the profile core, at most. */
const CORE_TOKENS = 2500
const INSTRUCTIONS_TOKENS = 60
/** Tokenizers of other models count up to this much more than the one used here. */
const TOKENIZER_MARGIN = 1.25

const CORE: Readonly<Record<string, { required: readonly string[]; optional: readonly string[] }>> = {
  workspace_create: {
    required: [],
    optional: ['name', 'environment', 'seed', 'network', 'memoryMib', 'diskMib', 'isolation'],
  },
  workspace_list: { required: [], optional: ['workspace'] },
  workspace_exec: {
    required: ['workspace', 'command'],
    optional: ['cwd', 'env', 'stdin', 'timeoutMs', 'waitMs', 'maxBytes'],
  },
  command_wait: {
    required: ['workspace', 'commandId'],
    optional: ['waitMs', 'stream', 'offset', 'maxBytes', 'kill'],
  },
  file_read: { required: ['workspace', 'path'], optional: ['startLine', 'maxLines'] },
  file_write: { required: ['workspace', 'path', 'text'], optional: ['oldText', 'replaceAll'] },
  sync_push: { required: ['workspace'], optional: ['source', 'dest', 'delete'] },
  workspace_diff: {
    required: ['workspace'],
    optional: ['from', 'to', 'root', 'paths', 'format', 'ignored', 'output', 'maxBytes'],
  },
  snapshot_create: { required: ['workspace', 'name'], optional: ['replace'] },
  workspace_reset: { required: ['workspace'], optional: ['snapshot', 'saveAs'] },
  workspace_export: { required: ['workspace', 'path', 'output'], optional: ['force'] },
  workspace_delete: { required: ['workspace'], optional: [] },
}

const tokens = (value: unknown): number => Math.ceil(encode(JSON.stringify(value)).length * TOKENIZER_MARGIN)

describe('the tools of the profile core', () => {
  it('are the twelve of the contract, with exactly these parameters', () => {
    const listed = toolDefinitions('core').map(({ name, inputSchema }) => {
      const required = new Set((inputSchema['required'] as string[] | undefined) ?? [])
      const names = Object.keys((inputSchema['properties'] as object | undefined) ?? {})
      expect(inputSchema['additionalProperties']).toBe(false)
      return [
        name,
        {
          required: names.filter((field) => required.has(field)),
          optional: names.filter((field) => !required.has(field)),
        },
      ]
    })
    expect(Object.fromEntries(listed)).toEqual(CORE)
  })

  it(`cost at most ${CORE_TOKENS} tokens, with a margin for other tokenizers`, () => {
    expect(tokens(toolDefinitions('core'))).toBeLessThanOrEqual(CORE_TOKENS)
    expect(tokens(INSTRUCTIONS)).toBeLessThanOrEqual(INSTRUCTIONS_TOKENS)
  })

  it('say which only read, and which may destroy', () => {
    const annotated = toolDefinitions('core').map(({ name, annotations }) => [name, annotations] as const)
    expect(annotated.filter(([, { readOnlyHint }]) => readOnlyHint).map(([name]) => name)).toEqual([
      'workspace_list',
      'file_read',
    ])
    expect(annotated.filter(([, { destructiveHint }]) => destructiveHint === true).map(([name]) => name)).toEqual([
      'workspace_delete',
      'workspace_reset',
      'workspace_export',
    ])
  })
})

describe('a host', () => {
  it.each(['legacy', 'auto'] as const)('is told tools and instructions (%s)', async (era) => {
    await using engine = await EngineServer.start()
    for (const profile of ['run', 'core', 'full'] as const) {
      await using host = await McpHost.start({ env: engine.env, profile, era })
      const { tools } = await host.client.listTools()
      expect(tools).toEqual(toolDefinitions(profile))
      expect(host.client.getInstructions()).toBe(INSTRUCTIONS)
    }
    expect(toolDefinitions('run').map(({ name }) => name)).toEqual(['run'])
    expect(toolDefinitions('full').length).toBeGreaterThan(toolDefinitions('core').length)
  })

  it('starts no engine to list the tools', async () => {
    await using engine = await EngineServer.start()
    await engine.kill()
    await using host = await McpHost.start({ env: engine.env })
    expect((await host.client.listTools()).tools).toHaveLength(12)
  })
})
