import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { resync } from '../../packages/engine/src/agent/resync.ts'
import type { MachineCopy } from './machine-copy.ts'

/** The engine's end of the link of a machine, up to the agent's hello. */
export class EngineEnd implements AsyncDisposable {
  readonly #server: Server
  readonly #machine: MachineCopy
  readonly #dialled: Promise<Socket>

  private constructor(machine: MachineCopy) {
    this.#machine = machine
    const { promise, resolve } = Promise.withResolvers<Socket>()
    this.#server = createServer(resolve)
    this.#dialled = promise
  }

  static async listen(machine: MachineCopy): Promise<EngineEnd> {
    const end = new EngineEnd(machine)
    await rm(machine.engineSocket, { force: true })
    end.#server.listen(machine.engineSocket)
    await once(end.#server, 'listening')
    return end
  }

  async firstAnswer(): Promise<void> {
    const socket = await this.#dialled
    await resync(socket, { ...this.#machine.agent, bootId: null })
    socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    await once(this.#server, 'close')
  }
}
