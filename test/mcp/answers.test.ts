// What the model reads: the server against the engine's half of the wire.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FRAME } from '@pyro/protocol'
import { EngineServer, type Routes } from '../sdk/engine-server.ts'
import { COMMAND_ID, commandResult, WORKSPACE_ID, workspaceRecord } from '../sdk/results.ts'
import { McpHost, type HostOptions } from './mcp-host.ts'

let project = ''
beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'pyro-project-'))
  execFileSync('git', ['init', '-q', project])
  writeFileSync(join(project, 'main.py'), 'print(1)\n')
})
afterEach(() => rmSync(project, { recursive: true }))

const STATUS = 'GET /v1/workspaces/{workspace}'
const EXEC = 'POST /v1/workspaces/{workspace}/exec'
const started = { type: 'started', workspaceId: WORKSPACE_ID, commandId: COMMAND_ID }
const status: Routes = { [STATUS]: ({ reply }) => reply.json(workspaceRecord()) }

const withEngine = async (
  routes: Routes,
  test: (host: McpHost, engine: EngineServer) => Promise<void>,
  options: Partial<HostOptions> = {},
): Promise<void> => {
  await using engine = await EngineServer.start({ ...status, ...routes })
  await using host = await McpHost.start({ env: engine.env, projectPath: project, ...options })
  await test(host, engine)
}

describe('workspace_exec', () => {
  it('answers with the outcome, then what was printed, in order and without escapes', () =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
          reply.frame(FRAME.stdout, 'one\n')
          reply.frame(FRAME.stderr, '\u001b[31mtwo\u001b[0m\n')
          reply.frame(FRAME.stdout, '10%\r100%\nthree')
          reply.result(commandResult({ exitCode: 1, durationMs: 3210 }))
        },
      },
      async (host, engine) => {
        const answer = await host.call('workspace_exec', { workspace: 'fix', command: 'make' })
        expect(answer).toEqual({
          text: `exit 1 · 3.2 s · ${COMMAND_ID}\none\ntwo\n100%\nthree`,
          isError: false,
          structured: undefined,
        })
        expect(engine.of('POST', /exec$/)[0]?.input).toMatchObject({ command: 'make' })
      },
    ))

  it.each([
    [{ exitCode: 137, signal: 'KILL', limit: 'memory' as const }, 'killed: memory limit 2048 MiB'],
    [{ exitCode: 124, timedOut: true }, 'timeout 120 s'],
    [{ exitCode: 143, signal: 'TERM' }, 'killed by SIGTERM'],
    [{ exitCode: 1, limit: 'disk' as const }, 'exit 1: disk full, 16384 MiB'],
    [{ exitCode: 1, limit: 'pids' as const }, 'exit 1: process limit'],
  ])('says what ended a command: %o', (changes, said) =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
          reply.result(commandResult({ durationMs: 1000, ...changes }))
        },
      },
      async (host) => {
        const { text } = await host.call('workspace_exec', { workspace: 'fix', command: 'x', timeoutMs: 120_000 })
        expect(text).toBe(`${said} · 1 s · ${COMMAND_ID}`)
      },
    ),
  )

  it('shows head and tail of much output, and how to fetch the rest', () =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
          for (let line = 0; line < 2000; line += 1) reply.frame(FRAME.stdout, `line ${line}\n`)
          reply.result(commandResult())
        },
      },
      async (host) => {
        const { text } = await host.call('workspace_exec', { workspace: 'fix', command: 'seq' })
        expect(text).toContain('\nline 0\n')
        expect(text).toContain('\nline 1999')
        expect(text).toMatch(
          /\n… \d+ KiB \([\d,]+ lines\) left out: command_wait {"workspace":"fix","commandId":"cmd-abcdefghijkl","offset":\d+,"maxBytes":65536} …\n/,
        )
        expect(Buffer.byteLength(text)).toBeLessThan(8192 + 300)
      },
    ))

  it('answers after waitMs with the id of what goes on, and does not end it', () =>
    withEngine(
      {
        // It never ends.
        [EXEC]: ({ reply }) => {
          reply.event(started)
          reply.frame(FRAME.stdout, 'listening\n')
        },
      },
      async (host, engine) => {
        const { text } = await host.call('workspace_exec', { workspace: 'fix', command: 'serve', waitMs: 3_000 })
        expect(text).toMatch(/^still running after [^·]+ · last output [^·]+ ago · cmd-abcdefghijkl\nlistening$/)
        const detached = await host.call('workspace_exec', { workspace: 'fix', command: 'serve', waitMs: 0 })
        expect(detached.text).toMatch(/^running · cmd-abcdefghijkl/)
        expect(engine.of('POST', /(cancel|kill)$/)).toEqual([])
      },
    ))

  it('ends the command when the call is cancelled, and tells of progress meanwhile', async () => {
    const cancelled = Promise.withResolvers<string>()
    await withEngine(
      {
        [EXEC]: ({ reply, requestId }) => {
          reply.event(started)
          reply.frame(FRAME.stdout, 'half way\n')
          void cancelled.promise.then((id) => id === requestId && reply.error('request.cancelled', 'cancelled'))
        },
        'POST /v1/requests/{requestId}/cancel': ({ path, reply }) => {
          cancelled.resolve(path.split('/')[3] ?? '')
          reply.json({ cancelled: true })
        },
      },
      async (host) => {
        const abort = new AbortController()
        const messages: string[] = []
        const call = host.call(
          'workspace_exec',
          { workspace: 'fix', command: 'long' },
          {
            signal: abort.signal,
            onprogress: ({ message }) => {
              messages.push(message ?? '')
              abort.abort()
            },
          },
        )
        await expect(call).rejects.toThrow('abort')
        expect(messages).toEqual(['half way'])
        await expect(cancelled.promise).resolves.toMatch(/./)
      },
    )
  })

  it('leaves the command alone when the host vanishes', () =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
        },
      },
      async (host, engine) => {
        const call = host.call('workspace_exec', { workspace: 'fix', command: 'long' })
        const vanished = call.catch((error: unknown) => error)
        await expect.poll(() => engine.of('POST', /exec$/).length, { timeout: 30_000 }).toBe(1)
        const { pid } = host
        await host[Symbol.asyncDispose]()
        expect(String(await vanished)).toContain('Connection closed')
        await expect.poll(() => isAlive(pid), { timeout: 30_000 }).toBe(false)
        expect(engine.of('POST', /(cancel|kill)$/)).toEqual([])
      },
    ))

  it('hints at the missing network when a look-up fails', () =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
          reply.frame(FRAME.stderr, 'curl: (6) Could not resolve host: example.org\n')
          reply.result(commandResult({ exitCode: 6 }))
        },
      },
      async (host) => {
        const { text } = await host.call('workspace_exec', { workspace: 'fix', command: 'curl example.org' })
        expect(text).toMatch(/\nhint: this workspace has no network$/)
      },
    ))

  it('says the same as data in the profile full', () =>
    withEngine(
      {
        [EXEC]: ({ reply }) => {
          reply.event(started)
          reply.frame(FRAME.stdout, 'out\n')
          reply.result(commandResult({ exitCode: 3 }))
        },
      },
      async (host) => {
        const { structured } = await host.call('workspace_exec', { workspace: 'fix', command: 'x' })
        expect(structured).toMatchObject({ commandId: COMMAND_ID, exitCode: 3, output: 'out\n', leftOut: null })
      },
      { profile: 'full' },
    ))
})

const isAlive = (pid: number | null): boolean => {
  try {
    return pid !== null && process.kill(pid, 0)
  } catch {
    // ESRCH: the process is gone.
    return false
  }
}

describe('command_wait', () => {
  const LOGS = 'POST /v1/workspaces/{workspace}/logs'
  const output = Array.from({ length: 3000 }, (_, line) => `line ${line}\n`).join('')

  it('pages through the output without a gap', () =>
    withEngine(
      {
        [LOGS]: ({ input, reply }) => {
          reply.frame(FRAME.stdout, output.slice(Number(input['cursor'])))
          reply.result(commandResult())
        },
      },
      async (host) => {
        let all = ''
        for (let offset = 0, pages = 0; pages < 20; pages += 1) {
          const { text } = await host.call('command_wait', { workspace: 'fix', commandId: COMMAND_ID, offset })
          const page = text.slice(text.indexOf('\n') + 1)
          const more = /\n… more: command_wait .*"offset":(\d+)/.exec(page)
          all += more === null ? `${page}\n` : page.slice(0, more.index + 1)
          if (more === null) break
          offset = Number(more[1])
        }
        expect(all).toBe(output)
      },
    ))

  it('says how a running command stands and where its next output begins', () =>
    withEngine(
      {
        [LOGS]: ({ input, reply }) => {
          reply.frame(FRAME.stdout, input['cursor'] === 0 ? 'hello\n' : '')
          // The command never ends.
          if (input['follow'] === true) return
          reply.result(
            commandResult({ state: 'running', exitCode: null, startedAt: new Date(Date.now() - 60_000).toISOString() }),
          )
        },
      },
      async (host) => {
        const { text } = await host.call('command_wait', { workspace: 'fix', commandId: COMMAND_ID, waitMs: 3_000 })
        expect(text).toMatch(
          /^still running after 6\d s · last output [^·]+ ago · cmd-abcdefghijkl\nhello\nnew output begins at offset 6$/,
        )
      },
    ))

  it('kills', () =>
    withEngine(
      {
        'POST /v1/workspaces/{workspace}/commands/{commandId}/kill': ({ reply }) =>
          reply.json(commandResult({ signal: 'TERM' })),
        [LOGS]: ({ reply }) => reply.result(commandResult({ exitCode: 143, signal: 'TERM', durationMs: 2000 })),
      },
      async (host, engine) => {
        const { text } = await host.call('command_wait', { workspace: 'fix', commandId: COMMAND_ID, kill: true })
        expect(text).toBe(`killed by SIGTERM · 2 s · ${COMMAND_ID}`)
        expect(engine.of('POST', /kill$/)[0]?.input).toEqual({ signal: 'TERM' })
      },
    ))
})

describe('workspace_create', () => {
  const CREATE = 'POST /v1/workspaces'
  const inspect: Routes = {
    'GET /v1/environments/inspect': ({ reply }) =>
      reply.json({ packages: ['git', 'curl', 'python3'].map((name) => ({ name, version: '1' })) }),
  }
  const created = (changes: object = {}): object => ({
    ...workspaceRecord(),
    created: true,
    durationMs: 80,
    ...changes,
  })

  it('seeds the project and says what the machine is', () =>
    withEngine(
      {
        ...inspect,
        [CREATE]: async ({ reply, frames, input }) => {
          for await (const { type, payload } of frames) if (type === FRAME.data && payload.byteLength === 0) break
          const seed = { ...(input['seed'] as object), files: 1, bytes: 9 }
          reply.result(created({ seed }))
        },
      },
      async (host, engine) => {
        const { text } = await host.call('workspace_create', { name: 'fix' })
        expect(text).toBe(
          `${WORKSPACE_ID} "fix" running · debian:12 (git, curl, python3; no compilers) · gvisor · network off · 2 vCPU 2048 MiB\n/workspace: 1 file of the git work tree (1 new)`,
        )
        expect(engine.of('POST', /workspaces$/)[0]?.input).toMatchObject({
          environment: 'debian:12',
          seed: { mode: 'git' },
        })
      },
    ))

  it('answers in time when it takes longer, and is found again', async () => {
    const done = Promise.withResolvers<void>()
    await withEngine(
      {
        ...inspect,
        'POST /v1/workspaces/list': ({ reply }) => reply.json({ workspaces: [] }),
        [STATUS]: ({ reply }) => reply.refuse('workspace.not-found', 'no workspace "slow"', 404),
        [CREATE]: async ({ reply }) => {
          reply.event({
            type: 'progress',
            progress: { step: 'pulling debian:12', done: 31, total: 50, unit: 'percent', detail: null },
          })
          await done.promise
          reply.result(created({ name: 'slow' }))
        },
      },
      async (host, engine) => {
        const input = { name: 'slow', seed: 'none' }
        const first = await host.call('workspace_create', input)
        expect(first.text).toMatch(
          /^"slow" · phase: creating · pulling debian:12 \(62%\) · \d+ ms so far\nworkspace_list {"workspace":"slow"}/,
        )
        expect((await host.call('workspace_list')).text).toMatch(/^"slow" creating · pulling debian:12 \(62%\) · /)
        const early = await host.call('workspace_exec', { workspace: 'slow', command: 'true' })
        expect(early).toMatchObject({ isError: true })
        expect(early.text).toMatch(/^workspace\.busy: "slow" is still being created/)
        done.resolve()
        expect((await host.call('workspace_create', input)).text).toMatch(/"slow" running/)
        expect(engine.of('POST', /workspaces$/)).toHaveLength(1)
      },
      { callLimitMs: 1300 },
    )
  })

  it('names the failure of a create that nobody waited for', async () => {
    const left = Promise.withResolvers<void>()
    await withEngine(
      {
        'POST /v1/workspaces/list': ({ reply }) => reply.json({ workspaces: [] }),
        [CREATE]: async ({ reply }) => {
          reply.event({
            type: 'progress',
            progress: { step: 'pulling', done: null, total: null, unit: null, detail: null },
          })
          await left.promise
          reply.error('environment.pull-failed', 'the mirror does not answer')
        },
      },
      async (host) => {
        await host.call('workspace_create', { name: 'lost', seed: 'none' })
        left.resolve()
        await expect
          .poll(async () => (await host.call('workspace_list')).text, { timeout: 30_000 })
          .toBe('"lost" was not created · environment.pull-failed: the mirror does not answer')
      },
      { callLimitMs: 1300 },
    )
  })
})

describe('errors', () => {
  it('are a code, a message and one hint, with the tool instead of the command line', () =>
    withEngine(
      {
        [STATUS]: ({ reply }) =>
          reply.json(
            {
              error: {
                code: 'workspace.not-found',
                message: 'no workspace "fxi"',
                hint: 'did you mean fix? pyro workspace list',
                data: null,
              },
            },
            404,
          ),
      },
      async (host) => {
        const answer = await host.call('workspace_exec', { workspace: 'fxi', command: 'true' })
        expect(answer).toEqual({
          text: 'workspace.not-found: no workspace "fxi"\nhint: did you mean fix? workspace_list',
          isError: true,
          structured: undefined,
        })
      },
    ))

  it('say what to do in words of the tool, also as data', () =>
    withEngine(
      { [STATUS]: ({ reply }) => reply.json(workspaceRecord()) },
      async (host) => {
        const { text, structured } = await host.call('workspace_export', {
          workspace: 'fix',
          path: 'main.py',
          output: 'main.py',
        })
        const hint = 'choose another output, or force to overwrite what the export brings'
        expect(text).toBe(`path.exists: main.py exists already; nothing was written\nhint: ${hint}`)
        expect(structured).toMatchObject({ error: { code: 'path.exists', hint } })
      },
      { profile: 'full' },
    ))

  it.each([
    [
      'workspace_exec',
      { command: 'true' },
      /^input\.invalid: workspace_exec: workspace: .*; nothing was done\nhint: parameters: workspace \(required\), command \(required\), cwd/,
    ],
    ['workspace_exec', { workspace: 'fix', command: 'true', shell: 'zsh' }, /^input\.invalid: .*"?shell"?/],
    ['workspace_exec', { workspace: 'fix', command: 7 }, /^input\.invalid: /],
    ['workspace_exec', { workspace: 'fix', command: 'true', waitMs: -1 }, /^input\.invalid: .*waitMs/],
    ['workspace_create', { memoryMib: 'many' }, /^input\.invalid: .*memoryMib/],
  ])('tell what is wrong with the parameters of %s: %o', (tool, input, said) =>
    withEngine({}, async (host, engine) => {
      const answer = await host.call(tool, input)
      expect(answer.isError).toBe(true)
      expect(answer.text).toMatch(said)
      expect(engine.calls).toEqual([])
    }),
  )

  it('refuse tools of another profile', () =>
    withEngine({}, async (host) => {
      await expect(host.call('workspace_update', { workspace: 'fix' })).rejects.toThrow(/no tool workspace_update/)
    }))

  it.each([
    ['workspace_create', { seed: '../elsewhere' }],
    ['workspace_create', { seed: 'link' }],
    ['sync_push', { workspace: 'fix', source: '/etc' }],
    ['workspace_export', { workspace: 'fix', path: 'x', output: '/tmp/x' }],
    ['workspace_export', { workspace: 'fix', path: 'x', output: '.git/hooks/pre-commit' }],
    ['workspace_export', { workspace: 'fix', path: 'x', output: 'link/x' }],
    ['workspace_diff', { workspace: 'fix', output: '../out.patch' }],
  ])('keep %s out of the rest of the host: %o', (tool, input) =>
    withEngine({}, async (host, engine) => {
      symlinkSync('/tmp', join(project, 'link'))
      const answer = await host.call(tool, input)
      expect(answer.text).toMatch(/^host-path\.not-allowed: /)
      expect(answer.isError).toBe(true)
      expect(engine.calls.filter(({ method }) => method === 'POST')).toEqual([])
    }),
  )
})

describe('workspace_diff', () => {
  const DIFF = 'POST /v1/workspaces/{workspace}/diff'
  const entry = (path: string): object => ({
    path,
    status: 'modified',
    type: 'file',
    oldType: 'file',
    mode: '100644',
    oldMode: '100644',
    uid: 0,
    gid: 0,
    sizeBytes: 10,
    binary: false,
    ignored: false,
    inPatch: true,
    additions: 1,
    deletions: 1,
    linkTarget: null,
  })
  const filePatch = (path: string, size: number): string =>
    `diff --git a/${path} b/${path}\n--- a/${path}\n+++ b/${path}\n@@ -1 +1 @@\n-a\n+${'b\n+'.repeat(size)}c\n`
  const diffOf = (files: Readonly<Record<string, number>>) => {
    const patch = Object.entries(files)
      .map(([path, size]) => filePatch(path, size))
      .join('')
    const result = {
      workspaceId: WORKSPACE_ID,
      from: 'baseline',
      to: 'current',
      root: '/workspace',
      clean: false,
      totals: {
        added: 0,
        modified: Object.keys(files).length,
        deleted: 0,
        typeChanged: 0,
        ignored: 2,
        notInPatch: 0,
        additions: 4,
        deletions: 3,
      },
      entries: Object.keys(files).map(entry),
      patch,
      patchBytes: patch.length,
      patchTruncated: false,
      gitSensitive: [],
      note: 'the baseline is older than the snapshot "green" this workspace was reset to',
    }
    const routes: Routes = {
      [DIFF]: ({ reply }) => {
        reply.frame(FRAME.data, patch)
        reply.result(result)
      },
    }
    return { patch, routes }
  }

  it('gives the whole patch when it fits', () => {
    const { patch, routes } = diffOf({ 'a.txt': 1 })
    return withEngine(routes, async (host) => {
      const { text } = await host.call('workspace_diff', { workspace: 'fix' })
      expect(text).toBe(
        `1 modified · +4 -3 · 2 ignored\nthe baseline is older than the snapshot "green" this workspace was reset to\n${patch.trimEnd()}`,
      )
    })
  })

  it('gives whole files up to its limit, then what the others are', () => {
    const { routes } = diffOf({ 'a.txt': 1000, 'b.txt': 3000, 'c.txt': 4000, 'd.txt': 1 })
    return withEngine(routes, async (host) => {
      const { text } = await host.call('workspace_diff', { workspace: 'fix' })
      expect(text).toContain('diff --git a/b.txt')
      expect(text).not.toContain('diff --git a/c.txt')
      expect(text).toMatch(
        /\n… the patch is 24 KiB; 2 of 4 files shown: workspace_diff .*\nM c\.txt \+1 -1\nM d\.txt \+1 -1$/,
      )
      const stat = await host.call('workspace_diff', { workspace: 'fix', format: 'stat' })
      expect(stat.text).toContain('\nM a.txt +1 -1\nM b.txt +1 -1\n')
    })
  })

  it('writes the patch beneath the project', () => {
    const { patch, routes } = diffOf({ 'a.txt': 5000 })
    return withEngine(routes, async (host) => {
      const { text } = await host.call('workspace_diff', { workspace: 'fix', output: 'change.patch' })
      expect(text).toMatch(/^wrote change\.patch · \d+ KiB\n/)
      expect(readFileSync(join(project, 'change.patch'), 'utf8')).toBe(patch)
      const over = await host.call('workspace_diff', { workspace: 'fix', output: 'main.py' })
      expect(over.text).toMatch(/^path\.exists: main\.py exists and is not a patch/)
    })
  })
})

describe('the profile run', () => {
  const RUN = 'POST /v1/run'

  it('runs, and finds a longer run again by its id', () => {
    const left = Promise.withResolvers<void>()
    return withEngine(
      {
        [RUN]: async ({ reply, frames }) => {
          for await (const { type, payload } of frames) if (type === FRAME.data && payload.byteLength === 0) break
          reply.event(started)
          reply.frame(FRAME.stdout, 'tests pass\n')
          await left.promise
          reply.result({ ...commandResult({ durationMs: 1500 }), kept: false })
        },
      },
      async (host, engine) => {
        const first = await host.call('run', { command: 'make test' })
        const id = /run-[a-z2-7]{12}/.exec(first.text)?.[0]
        expect(first.text).toMatch(/^still running after [^·]+ · last output [^·]+ ago · run-\w+\ntests pass$/)
        left.resolve()
        const { text } = await host.call('run', { runId: id })
        expect(text).toBe('exit 0 · 1.5 s\ntests pass')
        expect((await host.call('run', { runId: id })).text).toMatch(/^command\.not-found: /)
        expect(engine.of('POST', /run$/)).toHaveLength(1)
      },
      { profile: 'run', callLimitMs: 4000 },
    )
  })
})
