import { z } from 'zod'
import { envVars, labels, progress, someSpanMs } from '../../model/common.ts'
import { createdWorkspace, driverName, isolation } from '../../model/workspace.ts'
import { environmentName, workspaceName } from '../../model/names.ts'
import { defineOperation, type CliOption } from '../../operation.ts'

/** What the client packed; the archive itself travels in data frames. */
export const seedInput = z.strictObject({
  mode: z.enum(['path', 'git']),
  /** For display only; the engine never opens it. */
  source: z.string().max(4096),
  /** Counts of a git seed. */
  modified: z.int().nonnegative().nullable().default(null),
  untracked: z.int().nonnegative().nullable().default(null),
  ignored: z.int().nonnegative().nullable().default(null),
})

export const createFields = {
  environment: environmentName.default('debian:12'),
  name: workspaceName.optional(),
  labels: labels.default({}),
  /** Present when the request carries a seed archive (tar; plain, gzip or zstd). */
  seed: seedInput.optional(),
  vcpus: z.number().positive().max(256).default(2),
  memoryMib: z.int().min(64).max(4_194_304).default(2048),
  diskMib: z.int().min(64).max(67_108_864).default(16384),
  driver: driverName.or(z.literal('auto')).or(z.literal('fake')).default('auto'),
  isolation: isolation.or(z.literal('auto')).default('auto'),
  /** No route out at all. */
  network: z.enum(['off']).default('off'),
  env: envVars.default({}),
  /** Deleted when this much time has passed since create. */
  ttlMs: someSpanMs.optional(),
  pull: z.boolean().default(true).describe('false: fail when the environment is not here yet'),
}

export const createOptions = [
  { flag: 'label', field: 'labels', type: 'key-value', value: 'K=V', summary: 'label, repeatable' },
  {
    flag: 'seed-path',
    field: null,
    type: 'string',
    value: 'PATH',
    completes: 'path',
    summary: 'put this folder, .tar, .tar.gz or .tar.zst into /workspace',
  },
  {
    flag: 'seed-git',
    field: null,
    type: 'string',
    value: 'PATH',
    completes: 'path',
    summary: 'put the tracked and new unignored files of this git work tree, or of this folder of one, into /workspace',
  },
  { flag: 'vcpus', field: 'vcpus', type: 'int', value: 'N', default: '2', summary: 'processors' },
  { flag: 'memory-mib', field: 'memoryMib', type: 'int', value: 'N', default: '2048', summary: 'memory' },
  { flag: 'disk-mib', field: 'diskMib', type: 'int', value: 'N', default: '16384', summary: 'disk' },
  {
    flag: 'driver',
    field: 'driver',
    type: 'string',
    value: 'D',
    default: 'auto',
    choices: ['auto', 'firecracker', 'qemu', 'runsc', 'runc'],
    summary: 'what runs it',
  },
  {
    flag: 'isolation',
    field: 'isolation',
    type: 'string',
    value: 'I',
    default: 'auto',
    choices: ['auto', 'microvm', 'gvisor', 'container'],
    summary: 'the least that is promised; auto never means container, microvm never an emulated one',
  },
  {
    flag: 'network',
    field: 'network',
    type: 'string',
    value: 'N',
    default: 'off',
    choices: ['off'],
    summary: 'off: no route out',
  },
  {
    flag: 'env',
    short: 'e',
    field: 'env',
    type: 'key-value',
    value: 'K=V',
    summary: 'variable for every command, repeatable',
  },
  { flag: 'no-pull', field: 'pull', type: 'boolean', summary: 'fail when the environment is not here yet' },
] as const satisfies readonly CliOption[]

export const workspaceCreate = defineOperation({
  id: 'workspace.create',
  summary: 'Create a workspace from an environment, optionally seeded, and start it',
  description: 'Ready for exec when the call returns. Its state then is the snapshot "baseline".',
  kind: 'stream',
  mutates: true,
  input: z.strictObject({
    ...createFields,
    /** With a name: return the existing workspace, started, instead of failing. */
    ifAbsent: z.boolean().default(false),
  }),
  upload: { frame: 'data', what: 'the seed archive, when `seed` is given' },
  event: z.object({ type: z.literal('progress'), progress }),
  result: createdWorkspace,
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
    'limit.exceeded',
    'disk.full',
    'host.needs-root',
    'host.missing-tool',
  ],
  http: { method: 'POST', path: '/v1/workspaces' },
  sdk: { method: 'workspaces.create' },
  cli: {
    words: ['workspace', 'create'],
    positionals: [
      {
        field: 'environment',
        label: 'ENV',
        required: false,
        summary: 'environment (default debian:12)',
        completes: 'environment',
      },
    ],
    options: [
      { flag: 'name', field: 'name', type: 'string', value: 'N', summary: 'name (default: one is made up)' },
      {
        flag: 'if-absent',
        field: 'ifAbsent',
        type: 'boolean',
        summary: 'return the workspace of this name, started, if there is one',
      },
      ...createOptions,
      {
        flag: 'ttl',
        field: 'ttlMs',
        type: 'duration',
        value: 'D',
        summary: 'delete it when this much time has passed',
      },
      { flag: 'id-only', field: null, type: 'boolean', summary: 'print the id alone' },
    ],
    examples: [
      { line: 'pyro workspace create debian:12 --name fix --seed-git .', note: 'with the files of this repository' },
      { line: 'pyro workspace create debian:12-base --driver runc', note: 'a plain container, the weaker isolation' },
    ],
  },
  mcp: {
    tool: 'workspace_create',
    profiles: ['core', 'full'],
    description:
      'Create an isolated Linux machine that keeps its files between calls. /workspace gets the tracked and new unignored files of the project; its start is the snapshot "baseline".',
    input: z.strictObject({
      name: z.string().optional().describe('to find it again; default: made up'),
      environment: z.string().default('debian:12'),
      seed: z.string().optional().describe('project (default), none, or a path in the project'),
      network: z.enum(['off']).optional().describe('off: no route out'),
      memoryMib: z.int().optional().describe('default 2048'),
      diskMib: z.int().optional().describe('default 16384'),
      isolation: z
        .enum(['auto', 'microvm', 'gvisor', 'container'])
        .optional()
        .describe('auto: the strongest that works here, never container; microvm needs KVM'),
    }),
  },
})
