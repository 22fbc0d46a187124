import { z } from 'zod'
import { progress } from '../../model/common.ts'
import { environmentRecord } from '../../model/environment.ts'
import { environmentName } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const environmentPull = defineOperation({
  id: 'environment.pull',
  summary: 'Make an environment of the catalog available on this host',
  description:
    'Builds it from the Debian mirror this host is configured with. Concurrent pulls of one environment share one build; an interrupted pull leaves nothing but its package cache.',
  kind: 'stream',
  mutates: true,
  input: z.strictObject({ environment: environmentName }),
  event: z.object({ type: z.literal('progress'), progress }),
  result: environmentRecord.extend({ pulled: z.boolean(), durationMs: z.int() }),
  errors: ['environment.not-found', 'environment.pull-failed', 'host.needs-root', 'host.missing-tool', 'disk.full'],
  http: { method: 'POST', path: '/v1/environments/pull' },
  sdk: { method: 'environments.pull' },
  cli: {
    words: ['env', 'pull'],
    positionals: [
      { field: 'environment', label: 'ENV', required: true, summary: 'name in the catalog', completes: 'environment' },
    ],
    options: [],
    examples: [{ line: 'pyro env pull debian:12', note: 'git, curl, python3 and friends' }],
  },
  mcp: { tool: 'environment_pull', profiles: ['full'] },
})
