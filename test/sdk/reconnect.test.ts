import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pyro, type Workspace } from '@pyro/sdk'
import { FRAME } from '@pyro/protocol/client'
import { describe, expect, it } from 'vitest'
import { EngineServer, type Call, type Routes } from './engine-server.ts'
import { COMMAND_ID, commandResult, workspaceRecord, WORKSPACE_ID } from './results.ts'

const started = { type: 'started', workspaceId: WORKSPACE_ID, commandId: COMMAND_ID }

/** An engine that dies in the middle of its first answer and is back a moment later. */
const dying = async (
  routes: Routes,
  body: (workspace: Workspace, engine: EngineServer, pyro: Pyro) => Promise<void>,
): Promise<void> => {
  await using engine = await EngineServer.start({
    'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    ...routes,
  })
  await using pyro = Pyro.open({ socket: engine.socket, home: engine.home })
  await body(await pyro.workspaces.get('fix'), engine, pyro)
}

describe('a call whose engine dies', () => {
  it('is repeated with the same request id', async () => {
    let engine: EngineServer | null = null
    const seen: Call[] = []
    await dying(
      {
        'POST /v1/workspaces/{workspace}/reset': (call) => {
          seen.push(call)
          if (seen.length > 1) call.reply.json({ snapshot: 'baseline' })
          else engine?.restart()
        },
      },
      async (workspace, server) => {
        engine = server
        expect(await workspace.reset()).toEqual({ snapshot: 'baseline' })
        expect(seen).toHaveLength(2)
        expect(seen[0]?.requestId).toBe(seen[1]?.requestId)
      },
    )
  })

  it('sends its seed again from the beginning', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pyro-seed-'))
    writeFileSync(join(folder, 'big'), Buffer.alloc(5_000_000, 'x'))
    const received: number[] = []
    let engine: EngineServer | null = null
    await dying(
      {
        'POST /v1/workspaces': async (call) => {
          let bytes = 0
          for await (const { type, payload } of call.frames) {
            if (type !== FRAME.data) continue
            if (payload.byteLength === 0) break
            bytes += payload.byteLength
            if (received.length === 0 && bytes > 2_000_000) break
          }
          received.push(bytes)
          if (received.length === 1) return engine?.restart()
          call.reply.result({ ...workspaceRecord(), created: true, durationMs: 1 })
        },
      },
      async (_workspace, server, pyro) => {
        engine = server
        await pyro.workspaces.create({ seed: { path: folder }, keep: true })
        expect(received).toHaveLength(2)
        expect(received[1]).toBeGreaterThan(5_000_000)
      },
    )
    rmSync(folder, { recursive: true })
  })

  it('goes on with the output at the byte where it broke off, as often as needed', async () => {
    let engine: EngineServer | null = null
    const all = 'abcdefghijklmnopqrstuvwxyz'
    const cursors: unknown[] = []
    await dying(
      {
        'POST /v1/workspaces/{workspace}/exec': (call) => {
          call.reply.event(started)
          call.reply.frame(FRAME.stdout, all.slice(0, 3))
          call.reply.frame(FRAME.stderr, all.slice(3, 5))
          setTimeout(() => engine?.restart(), 20)
        },
        'POST /v1/workspaces/{workspace}/logs': (call) => {
          const cursor = Number(call.input['cursor'])
          cursors.push(call.input)
          if (cursors.length === 1) call.reply.frame(FRAME.stdout, all.slice(cursor, cursor + 5))
          else if (cursors.length === 2) call.reply.event({ type: 'gap', bytes: 6 })
          else {
            call.reply.frame(FRAME.stdout, all.slice(cursor))
            call.reply.result(commandResult({ exitCode: 4 }))
            return
          }
          setTimeout(() => engine?.restart(), 20)
        },
      },
      async (workspace, server) => {
        engine = server
        let text = ''
        const result = await workspace.exec('work', {
          onStdout: (part) => void (text += part),
          onStderr: (part) => void (text += part),
        })
        expect(result.exitCode).toBe(4)
        expect(text).toBe(all.slice(0, 10) + all.slice(16))
        expect(cursors).toEqual([5, 10, 16].map((cursor) => ({ commandId: COMMAND_ID, follow: true, cursor })))
      },
    )
  })

  it('repeats an exec that had not started yet', async () => {
    let engine: EngineServer | null = null
    const ids: string[] = []
    await dying(
      {
        'POST /v1/workspaces/{workspace}/exec': (call) => {
          ids.push(call.requestId)
          if (ids.length > 1) call.reply.result(commandResult())
          else engine?.restart()
        },
      },
      async (workspace, server) => {
        engine = server
        expect((await workspace.exec('true')).exitCode).toBe(0)
        expect(ids[0]).toBe(ids[1])
      },
    )
  })

  it('says so when standard input was only half sent, because the rest cannot reach the command', async () => {
    let engine: EngineServer | null = null
    async function* endless(): AsyncGenerator<string> {
      yield 'half'
      await new Promise(() => undefined)
    }
    await dying(
      {
        'POST /v1/workspaces/{workspace}/exec': (call) => {
          call.reply.event(started)
          setTimeout(() => engine?.restart(), 20)
        },
      },
      async (workspace, server) => {
        engine = server
        await expect(workspace.exec('cat', { stdin: endless() })).rejects.toMatchObject({
          code: 'engine.unreachable',
          data: { commandId: COMMAND_ID },
        })
      },
    )
  })

  it('deletes the workspace of a run itself', async () => {
    let engine: EngineServer | null = null
    const deleted: unknown[] = []
    await dying(
      {
        'POST /v1/run': (call) => {
          call.reply.event(started)
          setTimeout(() => engine?.restart(), 20)
        },
        'POST /v1/workspaces/{workspace}/logs': (call) => call.reply.result(commandResult({ exitCode: 2 })),
        'POST /v1/workspaces/delete': (call) => {
          deleted.push(call.input)
          call.reply.json({ deleted: [], errors: [] })
        },
      },
      async (_workspace, server, pyro) => {
        engine = server
        expect(await pyro.run('true', { environment: 'debian:12' })).toMatchObject({ exitCode: 2, kept: false })
        expect(deleted).toEqual([{ workspaces: [WORKSPACE_ID], ifExists: true }])
      },
    )
  })
})
