import { z } from 'zod'
import { defineOperation } from '../../operation.ts'

export const requestCancel = defineOperation({
  id: 'request.cancel',
  summary: 'Cancel a call that is under way, by its request id',
  description: 'The call itself then answers: `request.cancelled`, or its result when it was past the point of return.',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ requestId: z.string().min(1).max(64) }),
  result: z.object({ cancelled: z.boolean() }),
  errors: [],
  http: { method: 'POST', path: '/v1/requests/{requestId}/cancel' },
  sdk: { absent: 'an AbortSignal does it' },
  cli: { absent: 'Ctrl-C does it' },
  mcp: { absent: 'MCP cancellation does it' },
})
