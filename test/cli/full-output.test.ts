// What happens when the output has no place: the command against the engine's half of the wire.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FRAME } from '@pyro/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { EngineServer } from '../sdk/engine-server.ts'
import { COMMAND_ID, commandResult, WORKSPACE_ID, workspaceRecord } from '../sdk/results.ts'
import { CLI, until } from '../support/world.ts'
import { endOf, type ShellEnd } from './shell.ts'
import { tarOf } from '../support/tar.ts'

const FULL_BYTES = 64 * 1024
/** One line each: many more than may wait for one stream before Node warns. */
const WORKSPACES = 20_000
const PATCH = `diff --git a/a b/a\n${'+line\n'.repeat(50_000)}`
const diff = {
  workspaceId: WORKSPACE_ID,
  from: 'baseline',
  to: 'current',
  root: '/workspace',
  clean: false,
  totals: {
    added: 1,
    modified: 0,
    deleted: 0,
    typeChanged: 0,
    ignored: 0,
    notInPatch: 0,
    additions: 1,
    deletions: 0,
  },
  entries: [],
  patch: null,
  patchBytes: PATCH.length,
  patchTruncated: false,
  gitSensitive: [],
  note: null,
}

let engine: EngineServer
let folder = ''
/** A disk of `FULL_BYTES`. */
let full = ''
beforeAll(async () => {
  engine = await EngineServer.start({
    'POST /v1/workspaces/list': ({ reply }) => reply.json({ workspaces: Array(WORKSPACES).fill(workspaceRecord()) }),
    'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json(workspaceRecord()),
    'POST /v1/workspaces/{workspace}/diff': ({ reply }) => {
      reply.frame(FRAME.data, PATCH)
      reply.result(diff)
    },
    'POST /v1/workspaces/{workspace}/export': ({ reply }) => {
      reply.frame(FRAME.data, tarOf([{ name: 'thing', content: 'x'.repeat(4 * FULL_BYTES) }]))
      reply.result({ path: 'thing', type: 'file', files: 1, bytes: 4 * FULL_BYTES, gitHooks: false, skipped: 0 })
    },
    'POST /v1/workspaces/{workspace}/exec': ({ reply }) => {
      reply.event({ type: 'started', workspaceId: WORKSPACE_ID, commandId: COMMAND_ID })
      reply.frame(FRAME.stdout, 'x'.repeat(4 * FULL_BYTES))
      reply.result(commandResult())
    },
    'POST /v1/requests/{requestId}/cancel': ({ reply }) => reply.json({ cancelled: true }),
  })
})
afterAll(() => engine[Symbol.asyncDispose]())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pyro-full-'))
  full = join(folder, 'full')
  mkdirSync(full)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${FULL_BYTES}`, 'tmpfs', full])
})
afterEach(() => {
  execFileSync('umount', [full])
  rmSync(folder, { recursive: true })
})

const run = async (line: string): Promise<ShellEnd> => {
  const script = `pyro() { '${process.execPath}' '${CLI}' "$@"; }; ${line}`
  const child = spawn('bash', ['-c', script], { cwd: folder, env: { ...engine.env, NO_COLOR: '1' } })
  return endOf(child)
}

const NO_SPACE = `error: no space left on this host for standard output; what was printed is not whole (disk.full)
  hint: free space on this host, or send the output to another place
`

describe('standard output on a full disk', () => {
  test.each([
    'pyro workspace list',
    'pyro workspace list --json',
    'pyro workspace status fix',
    'pyro workspace diff fix',
    'pyro workspace diff fix --json',
    'pyro workspace export fix thing --output -',
    'pyro workspace export fix thing --format tar --output -',
    'pyro --help',
    'pyro workspace export --help',
    'pyro version',
    'pyro completion bash',
  ])('is one error of `%s`, with its exit code', async (line) => {
    expect(await run(`${line} > /dev/full`)).toEqual({ code: 5, stdout: '', stderr: NO_SPACE })
  })

  test.each(['pyro workspace diff fix', 'pyro workspace export fix thing --output -'])(
    'that takes the first part of `%s` is the same error',
    async (line) => {
      expect(await run(`${line} > full/out`)).toEqual({ code: 5, stdout: '', stderr: NO_SPACE })
      expect(statSync(join(full, 'out')).size).toBeGreaterThan(0)
    },
  )

  test('is 125 where the exit code belongs to the command', async () => {
    const exec = await run('pyro workspace exec fix -- yes > /dev/full')
    expect(exec).toEqual({ code: 125, stdout: '', stderr: NO_SPACE })
  })

  test('is no defect either where standard error is full, too', async () => {
    expect(await run('pyro workspace list > /dev/full 2> /dev/full')).toEqual({ code: 5, stdout: '', stderr: '' })
  })

  test('whose reader went away is 141 in silence', async () => {
    for (const line of [
      'pyro workspace diff fix',
      'pyro workspace export fix thing --output -',
      'pyro workspace list --id-only',
    ]) {
      const ended = await run(`${line} | head -c 1 > /dev/null; echo \${PIPESTATUS[0]}`)
      expect(ended).toEqual({ code: 0, stdout: '141\n', stderr: '' })
    }
  })
})

describe('diff --output', () => {
  test('on a full disk makes no file and leaves an existing one as it is', async () => {
    writeFileSync(join(full, 'kept'), 'kept')
    for (const name of ['kept', 'new']) {
      expect(await run(`pyro workspace diff fix --output full/${name}`)).toEqual({
        code: 5,
        stdout: '',
        stderr: `error: no space left on this host for full/${name}; nothing was written (disk.full)\n  hint: free space on this host, or write to another place\n`,
      })
    }
    expect(readdirSync(full)).toEqual(['kept'])
    expect(readFileSync(join(full, 'kept'), 'utf8')).toBe('kept')
  })

  test.each([
    ['/dev/stdout', 'pyro workspace diff fix --quiet --output /dev/stdout > out; cat out'],
    ['/dev/stdout that is a pipe', 'pyro workspace diff fix --quiet --output /dev/stdout | cat'],
    ['a descriptor', 'pyro workspace diff fix --quiet --output /dev/fd/3 3> out; cat out'],
    ['a process substitution', 'pyro workspace diff fix --quiet --output >(cat > out); wait $!; cat out'],
    ['a named pipe', 'mkfifo pipe; pyro workspace diff fix --quiet --output pipe > /dev/null & cat pipe; wait'],
  ])('to %s writes there', async (_what, line) => {
    const { stdout, stderr } = await run(line)
    expect(stderr).toBe('')
    expect(stdout === PATCH).toBe(true)
  })

  test('to a named pipe that nobody reads ends with Ctrl-C', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe')])
    const waiting = spawn(process.execPath, [CLI, 'workspace', 'diff', 'fix', '--output', 'pipe'], {
      cwd: folder,
      env: { ...engine.env, NO_COLOR: '1' },
    })
    let stderr = ''
    waiting.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    const before = engine.of('POST', /diff$/).length
    await until(() => engine.of('POST', /diff$/).length > before, 'the diff to be asked for')
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    waiting.kill('SIGINT')
    const [code] = (await once(waiting, 'close')) as [number | null]
    expect(code).toBe(130)
    expect(stderr).toBe('error: writing pipe was cancelled by the caller; nothing was written (request.cancelled)\n')
  })
})
