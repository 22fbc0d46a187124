import { z } from 'zod'
import { capability, leak } from '../../model/host.ts'
import { defineOperation } from '../../operation.ts'

export const doctor = defineOperation({
  id: 'doctor',
  summary: 'Check what works on this host, what is missing, and the command that provides it',
  description:
    'With --leaks: whatever exists on this host in the name of Pyro without an owner; exit 3 when anything does.',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({
    leaks: z.boolean().default(false),
    /** Releases leaks that are certain. */
    fix: z.boolean().default(false),
  }),
  result: z.object({
    ok: z.boolean(),
    capabilities: z.array(capability),
    /** Null unless asked for. */
    leaks: z.array(leak).nullable(),
    fixed: z.array(leak).nullable(),
  }),
  errors: ['host.needs-root'],
  http: { method: 'POST', path: '/v1/doctor' },
  sdk: { method: 'doctor' },
  cli: {
    words: ['doctor'],
    positionals: [],
    options: [
      { flag: 'leaks', field: 'leaks', type: 'boolean', summary: 'look for what has no owner' },
      { flag: 'fix', field: 'fix', type: 'boolean', summary: 'release what --leaks finds' },
      { flag: 'yes', field: null, type: 'boolean', summary: 'do not ask' },
    ],
    examples: [{ line: 'pyro doctor', note: '' }],
  },
  mcp: { tool: 'doctor', profiles: ['full'] },
})
