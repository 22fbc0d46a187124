import { OPERATIONS, type InputOf, type OperationId, type Progress } from '@pyro/protocol'
import { firstBytes } from '../text/line-window.ts'
import { size } from '../text/quantity.ts'
import { plainText } from '../text/terminal-text.ts'
import type { Tool } from '../tool.ts'
import { stepText } from './workspace-create.ts'

/** JSON of one answer; the structured content is complete. */
const TEXT_LIMIT_BYTES = 16 * 1024

/** A tool that is its operation: takes its input and answers with its result. */
export const operationTool = (id: OperationId): Tool<InputOf<OperationId>> => ({
  call: async (input, { pyro, signal, progress }) => {
    const event = (value: unknown): void => {
      const { type, progress: step } = value as { type: string; progress: Progress }
      if (type === 'progress') progress(stepText(step))
    }
    const result: object =
      OPERATIONS[id].kind === 'unary'
        ? await pyro.client.call(id, input, { signal })
        : await pyro.client.stream(id, input, { signal, sink: { event } })
    const text = plainText(JSON.stringify(result, null, 1))
    const cut = firstBytes(text, TEXT_LIMIT_BYTES)
    return {
      text: cut === text ? text : `${cut}\n… ${size(Buffer.byteLength(text) - Buffer.byteLength(cut))} left out`,
      structured: { ...result },
    }
  },
})
