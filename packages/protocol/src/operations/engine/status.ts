import { z } from 'zod'
import { engineStatus as engineStatusRecord } from '../../model/host.ts'
import { defineOperation } from '../../operation.ts'

export const engineStatus = defineOperation({
  id: 'engine.status',
  summary: 'Show whether the engine runs, its version and its home; never starts it',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({}),
  result: engineStatusRecord,
  errors: [],
  http: { method: 'GET', path: '/v1/engine' },
  sdk: { method: 'engine.status' },
  cli: { absent: '`pyro daemon status` answers also when no engine runs' },
  mcp: { absent: 'the engine is the affair of the host' },
})
