import { z } from 'zod'
import { commandResult, commandStarted, outputGap, stdinTaken } from '../model/command.ts'
import { progress } from '../model/common.ts'
import { defineOperation } from '../operation.ts'
import { createFields, createOptions } from './workspace/create.ts'
import { execFields, execOptions } from './workspace/exec.ts'

export const run = defineOperation({
  id: 'run',
  summary: 'Create a workspace, run one command in it, delete it',
  kind: 'stream',
  mutates: true,
  input: z.strictObject({
    ...createFields,
    ...execFields,
    /** Leave the workspace. */
    keep: z.boolean().default(false),
  }),
  upload: { frame: 'data+stdin', what: 'the seed archive in data frames, then standard input in stdin frames' },
  download: 'stdout and stderr in order of arrival',
  event: z.discriminatedUnion('type', [
    commandStarted,
    stdinTaken,
    outputGap,
    z.object({ type: z.literal('progress'), progress }),
  ]),
  result: commandResult.extend({ kept: z.boolean() }),
  errors: [
    'workspace.name-taken',
    'workspace.start-failed',
    'environment.not-found',
    'environment.pull-failed',
    'archive.unsafe-entry',
    'archive.too-large',
    'archive.truncated',
    'driver.unavailable',
    'isolation.unavailable',
    'command.interrupted',
    'limit.exceeded',
    'disk.full',
    'host.needs-root',
    'host.missing-tool',
  ],
  http: { method: 'POST', path: '/v1/run' },
  sdk: { method: 'run' },
  cli: {
    words: ['run'],
    positionals: [
      { field: 'environment', label: 'ENV', required: true, summary: 'environment', completes: 'environment' },
      { field: 'command', label: 'CMD', required: true, variadic: true, afterDashes: true, summary: 'command' },
    ],
    options: [
      { flag: 'name', field: 'name', type: 'string', value: 'N', summary: 'name, with --keep' },
      ...createOptions,
      ...execOptions,
      { flag: 'keep', field: 'keep', type: 'boolean', summary: 'leave the workspace' },
    ],
    examples: [
      {
        line: 'pyro run debian:12 --seed-git . -- python3 -m unittest',
        note: 'test this repository in a fresh machine',
      },
    ],
  },
  mcp: {
    tool: 'run',
    profiles: ['run', 'full'],
    description:
      'Run one command in a fresh isolated Linux machine that gets the tracked and new unignored files of the project in /workspace and is deleted afterwards. Still running after 20 s: answers with a runId; call again with it alone.',
    input: z.strictObject({
      command: z
        .union([z.string(), z.array(z.string())])
        .optional()
        .describe('string: sh -lc; array: argv'),
      environment: z.string().default('debian:12'),
      seed: z.string().optional().describe('project (default), none, or a path in the project'),
      env: z.record(z.string(), z.string()).optional(),
      stdin: z.string().optional(),
      timeoutMs: z.int().optional(),
      maxBytes: z.int().positive().default(8192),
      runId: z.string().optional().describe('wait for an earlier run'),
    }),
  },
})
