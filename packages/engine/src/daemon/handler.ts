import type { EventOf, OperationId, ParsedInputOf, Progress, ResultOf } from '@pyro/protocol'
import type { Call } from '../workspace/services.ts'
import type { Engine } from './engine.ts'
import type { Reply } from './reply.ts'
import type { Upload } from './request-body.ts'

/** Everything a handler gets. Its `signal` aborts when the caller cancels. */
export interface HandlerCall<Id extends OperationId> extends Call {
  readonly engine: Engine
  readonly input: ParsedInputOf<Id>
  readonly upload: Upload
  readonly reply: Reply<EventOf<Id>>
  /** Aborts when the client is gone: nobody reads what is sent any more. */
  readonly gone: AbortSignal
}

export type Handler<Id extends OperationId> = (call: HandlerCall<Id>) => Promise<ResultOf<Id>>

/** One for every operation: the compiler refuses a hole. */
export type Handlers = { readonly [Id in OperationId]: Handler<Id> }

/** This engine lets go of what the caller waits for; the connection ends without an answer, and the next engine has it. */
export class EngineLeaving extends Error {
  override readonly name = 'EngineLeaving'
}

/** For operations whose events are progress. */
export const progressTo =
  (reply: Reply<{ type: 'progress'; progress: Progress }>): ((progress: Progress) => void) =>
  (progress) =>
    void reply.event({ type: 'progress', progress })
