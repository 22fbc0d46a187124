import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { AgentClient } from '../../packages/engine/src/agent/agent-client.ts'
import type { MachineCopy } from './machine-copy.ts'
import { runIn } from './machine-command.ts'

const BOOT_TIMEOUT_MS = 120_000
const DEVICE = '/dev/vport0p2'

/** One more serial port of a machine that boots, like that of its link: `cat` inside, a socket outside, nothing between them. */
export class SerialPort implements AsyncDisposable {
  readonly #agent: AgentClient
  readonly #socket: Socket
  readonly #stack: AsyncDisposableStack
  #commands = 0

  private constructor(agent: AgentClient, socket: Socket, stack: AsyncDisposableStack) {
    this.#agent = agent
    this.#socket = socket
    this.#stack = stack
  }

  static async open(machine: MachineCopy): Promise<SerialPort> {
    await using stack = new AsyncDisposableStack()
    const port = join(machine.folder, 'port.sock')
    const link = stack.use(await machine.listen())
    stack.use(machine.start({ change: withPort(port) }))
    await link.session({ timeoutMs: BOOT_TIMEOUT_MS })
    const socket = stack.adopt(connect(port), (open) => void open.destroy())
    await once(socket, 'connect')
    return new SerialPort(link.agent, socket, stack.move())
  }

  /** Sends a file of the host into one inside. */
  async send(from: string, { into, bytes }: { into: string; bytes: number }): Promise<void> {
    await Promise.all([
      this.#run(`head -c ${bytes} ${DEVICE} > ${into}`),
      pipeline(createReadStream(from), this.#socket, { end: false }),
    ])
  }

  /** Receives a file from inside, and lets it fall. */
  async receive(from: string, bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    let left = bytes
    const count = (chunk: Buffer): void => {
      left -= chunk.length
      if (left <= 0) resolve()
    }
    this.#socket.on('data', count)
    await Promise.all([this.#run(`cat ${from} > ${DEVICE}`), promise])
    this.#socket.off('data', count)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }

  #run(shell: string): Promise<void> {
    return runIn(this.#agent, `cmd-floor${(this.#commands += 1)}`, { shell })
  }
}

const withPort =
  (socket: string) =>
  (argv: readonly string[]): string[] =>
    argv
      .map((argument) => argument.replace('virtio-serial-device,max_ports=2', 'virtio-serial-device,max_ports=3'))
      .concat('-chardev', `socket,id=floor,path=${socket},server=on,wait=off`)
      .concat('-device', 'virtserialport,chardev=floor,name=bench.floor,nr=2')
