import { PyroError, type ErrorCode } from '@pyro/protocol'
import type { agentError } from '@pyro/protocol/guest'
import { type AgentErrorKind } from '@pyro/protocol/guest'
import type { z } from 'zod'

/** What the call was about decides what "not found" and "exists" mean. */
export type Subject = 'command' | 'file' | 'archive'

const CODES: Record<Subject, Record<AgentErrorKind, ErrorCode>> = {
  command: codes('command.not-found', 'internal', 'sandbox.unreachable'),
  file: codes('path.not-found', 'path.exists', 'path.unreadable'),
  archive: codes('path.not-found', 'path.exists', 'path.unreadable'),
}

function codes(notFound: ErrorCode, exists: ErrorCode, failed: ErrorCode): Record<AgentErrorKind, ErrorCode> {
  return {
    invalid: 'input.invalid',
    exists: exists,
    'not-found': notFound,
    'not-a-file': 'path.not-a-file',
    'outside-root': 'path.outside-root',
    'text-mismatch': 'path.text-mismatch',
    limit: 'limit.exceeded',
    'no-space': 'disk.full',
    'unsafe-entry': 'archive.unsafe-entry',
    'too-large': 'archive.too-large',
    truncated: 'archive.truncated',
    failed: failed,
  }
}

/** An error of the agent in the words of the catalogue. */
export const toPyroError = (error: z.infer<typeof agentError>, subject: Subject): PyroError =>
  new PyroError(CODES[subject][error.kind], error.message, error.data === undefined ? {} : { data: error.data })
