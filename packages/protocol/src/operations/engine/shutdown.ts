import { z } from 'zod'
import { defineOperation } from '../../operation.ts'

export const engineShutdown = defineOperation({
  id: 'engine.shutdown',
  summary: 'End the engine; sandboxes live on unless asked otherwise',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({
    /** Stop every workspace first. */
    workspaces: z.boolean().default(false),
  }),
  result: z.object({ sandboxes: z.int(), stopped: z.int() }),
  errors: [],
  http: { method: 'POST', path: '/v1/engine/shutdown' },
  sdk: { method: 'engine.shutdown' },
  cli: { absent: '`pyro daemon stop` also waits until the process is gone' },
  mcp: { absent: 'the engine is the affair of the host' },
})
