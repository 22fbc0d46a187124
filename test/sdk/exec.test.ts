import { Pyro, type Workspace } from '@pyro/sdk'
import { FRAME } from '@pyro/protocol/client'
import { describe, expect, it } from 'vitest'
import { EngineServer, type Call, type Handler, type Routes } from './engine-server.ts'
import { COMMAND_ID, commandResult, workspaceRecord, WORKSPACE_ID } from './results.ts'

const started = { type: 'started', workspaceId: WORKSPACE_ID, commandId: COMMAND_ID }
const EXEC = 'POST /v1/workspaces/{workspace}/exec'

const withWorkspace = async (
  exec: Handler,
  body: (workspace: Workspace, engine: EngineServer) => Promise<void>,
  more: Routes = {},
): Promise<void> => {
  await using engine = await EngineServer.start({
    'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    [EXEC]: exec,
    ...more,
  })
  await using pyro = Pyro.open({ socket: engine.socket, home: engine.home })
  await body(await pyro.workspaces.get('fix'), engine)
}

/** The bytes of a request's standard input, to its end. */
const stdinOf = async (call: Call): Promise<string> => {
  const chunks: Uint8Array[] = []
  for await (const { type, payload } of call.frames) {
    if (type !== FRAME.stdin) continue
    if (payload.byteLength === 0) break
    chunks.push(payload)
  }
  return Buffer.concat(chunks).toString()
}

describe('exec', () => {
  it('delivers output in order of arrival and ends with the result', async () => {
    await withWorkspace(
      ({ reply }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, 'one\n')
        reply.frame(FRAME.stderr, 'two\n')
        reply.frame(FRAME.stdout, 'three\n')
        reply.result(commandResult({ exitCode: 7 }))
      },
      async (workspace) => {
        const seen: string[] = []
        const result = await workspace.exec(['make'], {
          onStdout: (text) => void seen.push(`out ${text}`),
          onStderr: (text) => void seen.push(`err ${text}`),
        })
        expect(seen).toEqual(['out one\n', 'err two\n', 'out three\n'])
        expect(result.exitCode).toBe(7)
      },
    )
  })

  it('delivers text whose last character is cut off, at the end as before a gap, whole characters as they are', async () => {
    const bom = '\ufeff'
    await withWorkspace(
      ({ reply }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, `${bom}a`)
        reply.frame(FRAME.stdout, Buffer.from([0xe2, 0x82]))
        reply.frame(FRAME.stderr, Buffer.from([0x62, 0xc3]))
        reply.event({ type: 'gap', bytes: 9 })
        // Behind the gap these would complete the character before it.
        reply.frame(FRAME.stdout, Buffer.from([0xac]))
        reply.frame(FRAME.stderr, Buffer.from([0xa4, 0xf0, 0x9f]))
        reply.result(commandResult())
      },
      async (workspace) => {
        const seen = { out: '', err: '' }
        await workspace.exec('print', {
          onStdout: (text) => void (seen.out += text),
          onStderr: (text) => void (seen.err += text),
          onGap: (bytes) => {
            seen.out += `<${bytes}>`
            seen.err += `<${bytes}>`
          },
        })
        expect(seen).toEqual({ out: `${bom}a\ufffd<9>\ufffd`, err: 'b\ufffd<9>\ufffd\ufffd' })
      },
    )
  })

  it('delivers a cut character also when the command ends with an error', async () => {
    await withWorkspace(
      ({ reply }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, Buffer.from([0x61, 0xc3]))
        reply.error('command.interrupted', 'ended by reset')
      },
      async (workspace) => {
        let text = ''
        const call = workspace.exec('print', { onStdout: (part) => void (text += part) })
        await expect(call).rejects.toMatchObject({ code: 'command.interrupted' })
        expect(text).toBe('a\ufffd')
      },
    )
  })

  it('sends standard input, then its end', async () => {
    await withWorkspace(
      async (call) => {
        const text = await stdinOf(call)
        call.reply.result(commandResult({ stdout: text.slice(0, 64), stdoutBytes: text.length }))
      },
      async (workspace) => {
        async function* words(): AsyncGenerator<string> {
          yield 'first '
          yield 'second'
        }
        expect((await workspace.exec('cat', { stdin: words() })).stdout).toBe('first second')
        expect((await workspace.exec('cat', { stdin: 'text' })).stdout).toBe('text')
        const large = Buffer.alloc(3_000_000, 'x')
        expect((await workspace.exec('cat', { stdin: large })).stdoutBytes).toBe(large.byteLength)
      },
    )
  })

  it('holds the engine back while a callback is busy', async () => {
    const chunk = Buffer.alloc(64 * 1024)
    let sent = 0
    await withWorkspace(
      async ({ reply }) => {
        reply.event(started)
        for (; sent < 64; sent++) {
          reply.frame(FRAME.stdout, chunk)
          await new Promise((resolve) => setImmediate(resolve))
        }
        reply.result(commandResult())
      },
      async (workspace) => {
        let received = 0
        await workspace.exec('yes', {
          onStdoutBytes: async (bytes) => {
            received += bytes.byteLength
            await new Promise((resolve) => setTimeout(resolve, 1))
          },
        })
        expect(received).toBe(64 * chunk.byteLength)
      },
    )
  })

  it('carries signals to the command while it runs', async () => {
    await withWorkspace(
      async (call) => {
        call.reply.event(started)
        for await (const { type, payload } of call.frames) {
          if (type !== FRAME.control) continue
          call.reply.result(commandResult({ stdout: Buffer.from(payload).toString() }))
          return
        }
      },
      async (workspace) => {
        let send: (signal: 'INT') => void = () => undefined
        const result = await workspace.exec('sleep 9', {
          control: (given) => (send = given),
          onStarted: () => send('INT'),
        })
        expect(JSON.parse(result.stdout)).toEqual({ type: 'signal', signal: 'INT' })
      },
    )
  })

  it('throws `command.failed` with check, and tells what happened', async () => {
    await withWorkspace(
      ({ reply }) => reply.result(commandResult({ command: 'false', exitCode: 1 })),
      async (workspace) => {
        await expect(workspace.exec('false', { check: true })).rejects.toMatchObject({
          code: 'command.failed',
          message: 'false ended with exit code 1',
        })
      },
    )
  })

  it('is cancelled in the engine by its request id, and ends with what the engine answers', async () => {
    let running: Call | null = null
    await withWorkspace(
      (call) => {
        running = call
        call.reply.event(started)
      },
      async (workspace, engine) => {
        const abort = new AbortController()
        const call = workspace.exec('sleep 9', { signal: abort.signal, onStarted: () => abort.abort() })
        await expect(call).rejects.toMatchObject({ code: 'request.cancelled', message: 'cancelled by the engine' })
        const [exec] = engine.of('POST', /exec$/)
        expect(engine.of('POST', /cancel$/).map(({ path }) => path)).toEqual([`/v1/requests/${exec?.requestId}/cancel`])
      },
      {
        'POST /v1/requests/{requestId}/cancel': ({ reply }) => {
          reply.json({ cancelled: true })
          running?.reply.error('request.cancelled', 'cancelled by the engine')
        },
      },
    )
  })

  it('is not even sent when it is cancelled before', async () => {
    await withWorkspace(
      ({ reply }) => reply.result(commandResult()),
      async (workspace, engine) => {
        await expect(workspace.exec('true', { signal: AbortSignal.abort() })).rejects.toMatchObject({
          code: 'request.cancelled',
        })
        expect(engine.of('POST', /exec$/)).toEqual([])
      },
    )
  })

  it('ends with the error of its last frame', async () => {
    await withWorkspace(
      ({ reply }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, 'so far\n')
        reply.error('command.interrupted', 'ended by reset')
      },
      async (workspace) => {
        const seen: string[] = []
        const call = workspace.exec('sleep 9', { onStdout: (text) => void seen.push(text) })
        await expect(call).rejects.toMatchObject({ code: 'command.interrupted' })
        expect(seen).toEqual(['so far\n'])
      },
    )
  })

  it('passes on what a callback throws, and lets the connection go', async () => {
    await withWorkspace(
      ({ reply }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, 'x')
      },
      async (workspace) => {
        // An errno of the caller's own must not be taken for a lost engine.
        const failure = Object.assign(new Error('mine'), { code: 'EPIPE' })
        const call = workspace.exec('sleep 9', {
          onStdoutBytes: () => {
            throw failure
          },
        })
        await expect(call).rejects.toBe(failure)
      },
    )
  })
})
