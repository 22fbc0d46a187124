import { Pyro, type LogsOptions } from '@pyro/sdk'
import { describe, expect, it } from 'vitest'
import { EngineServer } from './engine-server.ts'
import { COMMAND_ID, commandResult, workspaceRecord, WORKSPACE_ID } from './results.ts'

const connect = (engine: EngineServer): Pyro => Pyro.open({ socket: engine.socket, home: engine.home })

const collect = async (texts: AsyncIterable<string>): Promise<string[]> => {
  const all: string[] = []
  for await (const text of texts) all.push(text)
  return all
}

describe('unary calls', () => {
  it('put fields into the path and the rest into the body, with version and request id', async () => {
    await using engine = await EngineServer.start({
      'POST /v1/workspaces/{workspace}/snapshots': ({ reply }) => reply.json({ name: 'green' }),
    })
    await using pyro = connect(engine)
    await pyro.client.call('workspace.snapshot.create', { workspace: 'my ws', name: 'green', replace: true })
    const [call] = engine.calls
    expect(call).toMatchObject({
      path: '/v1/workspaces/my ws/snapshots',
      input: { name: 'green', replace: true },
      version: '0.1.0',
    })
    expect(call?.requestId).toMatch(/^[0-9a-f-]{36}$/)
  })

  it('put the rest of a GET into the query, each field as JSON', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}/commands': ({ reply }) => reply.json({ commands: [], total: 0 }),
      'GET /v1/environments/inspect': ({ reply }) => reply.json({}),
    })
    await using pyro = connect(engine)
    await pyro.client.call('workspace.command.list', { workspace: WORKSPACE_ID, running: true, limit: 10 })
    await pyro.environments.inspect('debian:12')
    expect(engine.calls.map(({ query }) => query)).toEqual([{ running: true, limit: 10 }, { environment: 'debian:12' }])
  })

  it('become the error the engine names, with its hint', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.refuse('workspace.not-found', 'no workspace "x"', 404),
    })
    await using pyro = connect(engine)
    await expect(pyro.workspaces.get('x')).rejects.toMatchObject({
      name: 'PyroError',
      code: 'workspace.not-found',
      message: 'no workspace "x"',
      hint: 'try something else',
    })
  })

  it('become `internal` when the answer is not the contract', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json({ oops: true }, 418),
    })
    await using pyro = connect(engine)
    await expect(pyro.workspaces.get('x')).rejects.toMatchObject({ code: 'internal', data: { status: 418 } })
  })

  it('refuse an empty workspace before anything is sent', async () => {
    await using engine = await EngineServer.start()
    await using pyro = connect(engine)
    await expect(pyro.workspaces.get('')).rejects.toMatchObject({ code: 'input.invalid' })
    expect(engine.calls).toEqual([])
  })

  it.each(['.', '..'])('never take the name "%s" for a step to another operation', async (dots) => {
    await using engine = await EngineServer.start({
      'POST /v1/workspaces/list': ({ reply }) => reply.json({ workspaces: [] }),
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    })
    await using pyro = connect(engine)
    await expect(pyro.workspaces.get(dots)).rejects.toMatchObject({ code: 'workspace.not-found' })
    await expect(pyro.client.stream('workspace.diff', { workspace: dots })).rejects.toMatchObject({
      code: 'workspace.not-found',
    })
    const workspace = await pyro.workspaces.get('fix')
    await expect(workspace.snapshots.inspect(dots)).rejects.toMatchObject({ code: 'input.invalid' })
    await expect(workspace.snapshots.delete(dots)).rejects.toMatchObject({ code: 'input.invalid' })
    await expect(workspace.commands.wait(dots)).rejects.toMatchObject({ code: 'input.invalid' })
    expect(engine.calls.map(({ path }) => path)).toEqual(['/v1/workspaces/fix'])
  })

  it('say `engine.unreachable` when a named socket has no engine', async () => {
    const engine = await EngineServer.start()
    await engine[Symbol.asyncDispose]()
    await using pyro = connect(engine)
    await expect(pyro.workspaces.list()).rejects.toMatchObject({ code: 'engine.unreachable' })
  })
})

describe('a closed client', () => {
  it('refuses calls, and sends nothing', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    })
    const pyro = connect(engine)
    const workspace = await pyro.workspaces.get('fix')
    pyro.close()
    const calls: (() => Promise<unknown>)[] = [
      () => pyro.workspaces.list(),
      () => pyro.engine.status(),
      () => pyro.engine.start(),
      () => pyro.engine.shutdown(),
      () => pyro.run('true'),
      () => workspace.exec('true'),
      () => workspace.diff(),
      () => collect(workspace.commands.get(COMMAND_ID).stdout),
    ]
    for (const call of calls)
      await expect(call()).rejects.toMatchObject({
        code: 'input.invalid',
        message: 'this client is closed; nothing was sent',
      })
    pyro.close()
    expect(engine.calls).toHaveLength(1)
  })

  it('ends the calls that are under way, and begins none of them anew', async () => {
    await using engine = await EngineServer.start({ 'POST /v1/workspaces/list': () => undefined })
    const pyro = connect(engine)
    const ended = pyro.workspaces.list().catch((error: unknown) => error)
    await expect.poll(() => engine.calls.length, { timeout: 30_000 }).toBe(1)
    pyro.close()
    expect(await ended).toMatchObject({ code: 'request.cancelled' })
    expect(engine.calls).toHaveLength(1)
  })
})

describe('a workspace handle', () => {
  const created = { ...workspaceRecord(), created: true, durationMs: 5 }
  const routes = {
    'POST /v1/workspaces/delete': ({ reply }: { reply: { json: (value: unknown) => void } }) =>
      reply.json({ deleted: [], errors: [] }),
  }

  it('deletes on dispose the workspace it created', async () => {
    await using engine = await EngineServer.start({
      ...routes,
      'POST /v1/workspaces': ({ reply }) => reply.result(created),
    })
    await using pyro = connect(engine)
    {
      await using workspace = await pyro.workspaces.create({ environment: 'debian:12' })
      expect(workspace.id).toBe(WORKSPACE_ID)
    }
    expect(engine.of('POST', /delete$/).map(({ input }) => input)).toEqual([
      { workspaces: [WORKSPACE_ID], ifExists: true },
    ])
  })

  it('leaves it with keep, when ifAbsent found it, and when it was got', async () => {
    await using engine = await EngineServer.start({
      ...routes,
      'POST /v1/workspaces': ({ reply, input }) => reply.result({ ...created, created: input['ifAbsent'] !== true }),
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    })
    await using pyro = connect(engine)
    {
      await using kept = await pyro.workspaces.create({ keep: true })
      await using found = await pyro.workspaces.create({ name: 'fix', ifAbsent: true })
      await using got = await pyro.workspaces.get('fix')
      expect([kept.owned, found.owned, got.owned]).toEqual([false, false, false])
    }
    expect(engine.of('POST', /delete$/)).toEqual([])
  })

  it('throws what the engine could not delete', async () => {
    const failed = { workspace: WORKSPACE_ID, code: 'workspace.busy', message: 'busy', hint: null }
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
      'POST /v1/workspaces/delete': ({ reply }) => reply.json({ deleted: [], errors: [failed] }),
    })
    await using pyro = connect(engine)
    const workspace = await pyro.workspaces.get('fix')
    await expect(workspace.delete()).rejects.toMatchObject({ code: 'workspace.busy' })
  })
})

describe('commands by id', () => {
  it('are waited for, killed and read', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
      'POST /v1/workspaces/{workspace}/exec': ({ reply }) =>
        reply.result(commandResult({ state: 'running', exitCode: null })),
      'POST /v1/workspaces/{workspace}/commands/{commandId}/wait': ({ reply }) => reply.json(commandResult()),
      'POST /v1/workspaces/{workspace}/commands/{commandId}/kill': ({ reply }) =>
        reply.json(commandResult({ signal: 'KILL' })),
      'POST /v1/workspaces/{workspace}/logs': ({ reply }) => {
        // An umlaut cut in two between frames.
        reply.frame(0x01, Buffer.from([0x61, 0xc3]))
        reply.frame(0x02, 'problem\n')
        reply.frame(0x01, Buffer.from([0xa4]))
        reply.result(commandResult())
      },
    })
    await using pyro = connect(engine)
    const workspace = await pyro.workspaces.get('fix')
    const command = await workspace.exec('sleep 9', { detach: true })
    expect((await command.wait({ timeoutMs: 10 })).exitCode).toBe(0)
    expect((await command.kill('KILL')).signal).toBe('KILL')
    expect(await collect(command.stdout)).toEqual(['a', 'ä'])
    expect(await collect(command.stderr)).toEqual(['problem\n'])
  })

  it('tell of output that is not kept any more, where it is missing', async () => {
    await using engine = await EngineServer.start({
      'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
      'POST /v1/workspaces/{workspace}/logs': ({ reply }) => {
        reply.event({ type: 'gap', bytes: 7 })
        reply.frame(0x01, Buffer.from([0x61, 0xc3]))
        reply.event({ type: 'gap', bytes: 5 })
        reply.frame(0x01, Buffer.from([0xa4, 0x62]))
        reply.result(commandResult())
      },
    })
    await using pyro = connect(engine)
    const workspace = await pyro.workspaces.get('fix')
    const command = workspace.commands.get(COMMAND_ID)
    for (const follow of [
      (options: LogsOptions) => workspace.logs(options),
      (options: LogsOptions) => command.output(options),
    ]) {
      const seen: (string | number)[] = []
      const chunks = follow({ onGap: (bytes) => void seen.push(bytes) })
      for await (const { bytes } of chunks) seen.push(Buffer.from(bytes).toString('hex'))
      expect(seen).toEqual([7, '61c3', 5, 'a462'])
    }
    expect(await collect(command.stdout)).toEqual(['a', '\ufffd\ufffdb'])
  })
})
