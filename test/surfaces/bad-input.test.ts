import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { gzipSync } from 'node:zlib'
import { encodeFrame, encodeJsonFrame, ERRORS, FRAME, FRAMES_CONTENT_TYPE, type ErrorCode } from '@pyro/protocol'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { McpHost } from '../mcp/mcp-host.ts'
import { volatileFolder } from '../support/host-run.ts'
import { tarOf, type TarMember } from '../support/tar.ts'
import { CLI, ENVIRONMENT, World } from '../support/world.ts'
import { onCli, onHttp, onMcp, stateOf, untilAsBefore, type RawRequest, type Refusal } from './refusals.ts'

const LIMITS = { archiveEntries: 40, archiveBytes: 100_000, archivePathBytes: 90, requestBytes: 64 * 1024 }

let world: World
let ws: Workspace
let host: McpHost
/** What an MCP host has open; its files may be named. */
let project: string
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'fix', keep: true })
  await ws.snapshots.create('green')
  await ws.files.write('kept.txt', 'kept')
  await world.restartEngine({ PYRO_LIMITS: JSON.stringify(LIMITS) })
  project = mkdtempSync(join(world.folder, 'project-'))
  const command: [string, ...string[]] = [process.execPath, CLI, 'mcp', 'serve', '--profile', 'full']
  host = await McpHost.start({
    env: { ...process.env, ...world.env },
    command: [...command, '--project-path', project],
  })
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await world[Symbol.asyncDispose]()
})

interface Expected {
  readonly code: ErrorCode
  readonly refusal: Refusal
}

/** What is wrong with a refusal: it must be typed, help, come with the exit code or status of its code, and change nothing. */
const problemsOf = async (before: object, { code, refusal }: Expected): Promise<readonly string[]> => {
  const { exit, status } = ERRORS[code]
  const after = await untilAsBefore(world, before)
  const kept = await ws.files.read('kept.txt')
  const claims: readonly (readonly [what: string, holds: boolean])[] = [
    [`code ${refusal.code}: ${refusal.message}`, refusal.code === code],
    [
      `message ${refusal.message}`,
      /^.{9,}$/.test(refusal.message) && !/undefined|\[object|defect/.test(refusal.message),
    ],
    [
      `outcome ${refusal.message}`,
      !code.startsWith('archive.') || /(?:no workspace was made|nothing was \w+)$/.test(refusal.message),
    ],
    [`hint ${refusal.hint}`, /\w{2}/.test(refusal.hint ?? '')],
    // Where the exit code belongs to the user's command, 125 stands for all of them.
    [`exit code ${refusal.exit}`, [exit, 125, undefined].includes(refusal.exit)],
    [`status ${refusal.status}`, [status, undefined].includes(refusal.status)],
    [`state ${JSON.stringify(after)} instead of ${JSON.stringify(before)}`, isDeepStrictEqual(after, before)],
    [`content ${kept.text}`, kept.text === 'kept'],
  ]
  return claims.flatMap(([what, holds]) => (holds ? [] : [what]))
}

interface Case {
  readonly what: string
  readonly code: ErrorCode
  readonly cli?: readonly string[]
  readonly http?: readonly [path: string, body: object]
  readonly mcp?: readonly [tool: string, input: Record<string, unknown>]
}

const create = { environment: ENVIRONMENT, driver: 'runc' } as const

const CASES: readonly Case[] = [
  {
    what: 'an unknown environment',
    code: 'environment.not-found',
    cli: ['workspace', 'create', 'nosuch:1'],
    http: ['/v1/workspaces', { environment: 'nosuch:1' }],
    mcp: ['workspace_create', { environment: 'nosuch:1', seed: 'none' }],
  },
  {
    what: 'an environment that is none',
    code: 'input.invalid',
    cli: ['workspace', 'create', '../etc'],
    http: ['/v1/workspaces', { environment: '../etc' }],
    mcp: ['workspace_create', { environment: '../etc', seed: 'none' }],
  },
  {
    what: 'an environment that is not here, without a pull',
    code: 'environment.not-found',
    cli: ['workspace', 'create', 'debian:12-build', '--no-pull'],
    http: ['/v1/workspaces', { environment: 'debian:12-build', pull: false }],
  },
  {
    what: 'an unknown workspace',
    code: 'workspace.not-found',
    cli: ['workspace', 'status', 'nosuch'],
    http: ['/v1/workspaces/nosuch/reset', {}],
    mcp: ['workspace_exec', { workspace: 'nosuch', command: 'true' }],
  },
  {
    what: 'an unknown workspace, for a command',
    code: 'workspace.not-found',
    cli: ['workspace', 'exec', 'nosuch', '--', 'true'],
    http: ['/v1/workspaces/nosuch/exec', { command: 'true' }],
    mcp: ['file_read', { workspace: 'nosuch', path: 'x' }],
  },
  {
    what: 'an unknown snapshot',
    code: 'snapshot.not-found',
    cli: ['workspace', 'reset', 'fix', '--snapshot', 'nosuch'],
    http: ['/v1/workspaces/fix/reset', { snapshot: 'nosuch' }],
    mcp: ['workspace_reset', { workspace: 'fix', snapshot: 'nosuch' }],
  },
  {
    what: 'an unknown snapshot in a diff',
    code: 'snapshot.not-found',
    cli: ['workspace', 'diff', 'fix', '--to', 'nosuch'],
    http: ['/v1/workspaces/fix/diff', { from: 'nosuch' }],
    mcp: ['workspace_diff', { workspace: 'fix', from: 'nosuch' }],
  },
  {
    what: 'an unknown command',
    code: 'command.not-found',
    cli: ['workspace', 'command', 'kill', 'fix', 'cmd-aaaaaaaaaaaa'],
    http: ['/v1/workspaces/fix/commands/cmd-aaaaaaaaaaaa/wait', {}],
    mcp: ['command_wait', { workspace: 'fix', commandId: 'cmd-aaaaaaaaaaaa' }],
  },
  {
    what: 'a taken name',
    code: 'workspace.name-taken',
    cli: ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--name', 'fix'],
    http: ['/v1/workspaces', { ...create, name: 'fix' }],
  },
  {
    what: 'a reserved name of a workspace',
    code: 'input.invalid',
    cli: ['workspace', 'create', ENVIRONMENT, '--name', 'baseline'],
    http: ['/v1/workspaces', { ...create, name: 'current' }],
    mcp: ['workspace_create', { environment: ENVIRONMENT, seed: 'none', name: 'baseline' }],
  },
  {
    what: 'a workspace name that looks like an id',
    code: 'input.invalid',
    cli: ['workspace', 'update', 'fix', '--name', 'ws-aaaaaaaaaaaa'],
    http: ['/v1/workspaces', { ...create, name: 'ws-aaaaaaaaaaaa' }],
    mcp: ['workspace_create', { environment: ENVIRONMENT, seed: 'none', name: 'ws-aaaaaaaaaaaa' }],
  },
  {
    what: 'a reserved name of a snapshot',
    code: 'snapshot.reserved',
    cli: ['workspace', 'snapshot', 'create', 'fix', 'current'],
    http: ['/v1/workspaces/fix/snapshots', { name: 'baseline' }],
    mcp: ['snapshot_create', { workspace: 'fix', name: 'baseline', replace: true }],
  },
  {
    what: 'a reserved name to save the present state as',
    code: 'snapshot.reserved',
    cli: ['workspace', 'reset', 'fix', '--save-as', 'baseline'],
    http: ['/v1/workspaces/fix/reset', { saveAs: 'current' }],
    mcp: ['workspace_reset', { workspace: 'fix', saveAs: 'current' }],
  },
  {
    what: 'a taken name to save the present state as',
    code: 'snapshot.exists',
    cli: ['workspace', 'reset', 'fix', '--save-as', 'green'],
    http: ['/v1/workspaces/fix/snapshots', { name: 'green' }],
    mcp: ['snapshot_create', { workspace: 'fix', name: 'green' }],
  },
  {
    what: 'deleting the baseline',
    code: 'snapshot.reserved',
    cli: ['workspace', 'snapshot', 'delete', 'fix', 'baseline'],
    mcp: ['snapshot_delete', { workspace: 'fix', name: 'baseline' }],
  },
  {
    what: 'a path outside the root',
    code: 'path.outside-root',
    cli: ['workspace', 'file', 'read', 'fix', '../../etc/shadow'],
    http: ['/v1/workspaces/fix/file/write', { path: '../x', text: 'x' }],
  },
  {
    what: 'a life beyond all dates',
    code: 'input.invalid',
    cli: ['workspace', 'update', 'fix', '--ttl', '100000000d'],
    http: ['/v1/workspaces', { ...create, ttlMs: 9_000_000_000_000_000 }],
  },
  {
    what: 'a timeout beyond all clocks',
    code: 'input.invalid',
    cli: ['workspace', 'exec', 'fix', '--timeout', '110000d', '--', 'true'],
    http: ['/v1/workspaces/fix/commands/cmd-aaaaaaaaaaaa/wait', { timeoutMs: 9_000_000_000_000_000 }],
    mcp: ['workspace_exec', { workspace: 'fix', command: 'true', timeoutMs: 9_000_000_000_000_000 }],
  },
  {
    what: 'a variable that a schema would drop',
    code: 'input.invalid',
    cli: ['workspace', 'exec', 'fix', '-e', '__proto__=x', '--', 'true'],
    http: ['/v1/workspaces/fix/exec', { command: 'true', env: { ['__proto__']: 'x' } }],
    mcp: ['workspace_exec', { workspace: 'fix', command: 'true', env: { ['__proto__']: 'x' } }],
  },
  {
    what: 'a label that a schema would drop',
    code: 'input.invalid',
    cli: ['workspace', 'update', 'fix', '--label', '__proto__=x', '--label', 'ok=1'],
    http: ['/v1/workspaces', { ...create, labels: { ['__proto__']: 'x', ok: '1' } }],
  },
  {
    what: 'a machine of no size',
    code: 'input.invalid',
    cli: ['workspace', 'create', ENVIRONMENT, '--memory-mib', '1'],
    http: ['/v1/workspaces', { ...create, memoryMib: -5 }],
    mcp: ['workspace_create', { environment: ENVIRONMENT, seed: 'none', memoryMib: 1 }],
  },
  {
    what: 'a machine larger than the host',
    code: 'limit.exceeded',
    cli: ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--memory-mib', '4000000'],
    http: ['/v1/workspaces', { ...create, memoryMib: 4_000_000 }],
  },
  {
    what: 'a driver that contradicts the isolation',
    code: 'isolation.unavailable',
    cli: ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--isolation', 'gvisor'],
    http: ['/v1/workspaces', { ...create, isolation: 'microvm' }],
  },
]

describe.each(CASES)('$what', ({ code, cli, http, mcp }) => {
  test(`is ${code} on every surface that can say it, and changes nothing`, async () => {
    const before = await stateOf(world)
    const refusals: Refusal[] = []
    if (cli !== undefined) refusals.push(await onCli(world, cli))
    if (http !== undefined) refusals.push(await onHttp(world, { path: http[0], body: JSON.stringify(http[1]) }))
    if (mcp !== undefined) refusals.push(await onMcp(host, ...mcp))
    expect(refusals.length).toBeGreaterThan(0)
    for (const refusal of refusals) expect(await problemsOf(before, { code, refusal })).toEqual([])
  })
})

test('a variable that a schema would drop is refused for the SDK, and its name is no trouble in a value', async () => {
  const env = JSON.parse('{"__proto__":"x"}') as Record<string, string>
  await expect(ws.exec('true', { env })).rejects.toMatchObject({
    code: 'input.invalid',
    data: { field: 'env.__proto__' },
  })
  const { stdout } = await ws.exec('echo __proto__ $NAME', { env: { NAME: '__proto__' } })
  expect(stdout).toBe('__proto__ __proto__\n')
})

describe('a name that is none', () => {
  test.each(['', ' ', 'a b', '../x', '.hidden', '-x', 'x'.repeat(65), 'ä', 'a\n', 'a/b', 'a\u0000'])(
    '%j is refused for workspaces and snapshots alike',
    async (name) => {
      const before = await stateOf(world)
      const bodies: readonly RawRequest[] = [
        { path: '/v1/workspaces', body: JSON.stringify({ ...create, name }) },
        { path: '/v1/workspaces/fix/snapshots', body: JSON.stringify({ name }) },
        { path: '/v1/workspaces/fix', method: 'PATCH', body: JSON.stringify({ name }) },
      ]
      for (const raw of bodies)
        expect(await problemsOf(before, { code: 'input.invalid', refusal: await onHttp(world, raw) })).toEqual([])
      const refusal = await onMcp(host, 'snapshot_create', { workspace: 'fix', name })
      expect(await problemsOf(before, { code: 'input.invalid', refusal })).toEqual([])
    },
  )
})

const manyFiles = (count: number): TarMember[] =>
  Array.from({ length: count }, (_, index) => ({ name: `f${index}`, content: 'x' }))

/** Archives that nobody should unpack, and what is said of each. */
const ARCHIVES: readonly (readonly [what: string, code: ErrorCode, bytes: Buffer])[] = [
  ['with a path that climbs', 'archive.unsafe-entry', tarOf([{ name: 'ok' }, { name: 'a/../../evil' }])],
  ['with an absolute path', 'archive.unsafe-entry', tarOf([{ name: 'ok' }, { name: '/etc/evil' }])],
  [
    'with a symlink that leaves',
    'archive.unsafe-entry',
    tarOf([
      { name: 'out', type: '2', link: '/etc' },
      { name: 'out/evil', content: 'x' },
    ]),
  ],
  ['with a hard link that leaves', 'archive.unsafe-entry', tarOf([{ name: 'x', type: '1', link: '../../etc/passwd' }])],
  ['with a character device', 'archive.unsafe-entry', tarOf([{ name: 'null', type: '3' }])],
  ['with a block device', 'archive.unsafe-entry', tarOf([{ name: 'sda', type: '4' }])],
  ['with a named pipe', 'archive.unsafe-entry', tarOf([{ name: 'pipe', type: '6' }])],
  ['of too many entries', 'archive.too-large', tarOf(manyFiles(LIMITS.archiveEntries + 1))],
  ['of too many bytes', 'archive.too-large', tarOf([{ name: 'big', content: 'x'.repeat(LIMITS.archiveBytes + 1) }])],
  [
    'of too many bytes, packed',
    'archive.too-large',
    gzipSync(tarOf([{ name: 'big', content: Buffer.alloc(500_000) }])),
  ],
  ['with too long a path', 'archive.too-large', tarOf([{ name: 'p'.repeat(LIMITS.archivePathBytes + 1) }])],
  ['cut in a file', 'archive.truncated', tarOf([{ name: 'a', content: 'x'.repeat(5000) }]).subarray(0, 2000)],
  ['cut in its compression', 'archive.truncated', gzipSync(tarOf(manyFiles(20))).subarray(0, 60)],
  ['of noise', 'archive.truncated', Buffer.from('this is no archive at all\n'.repeat(100))],
  ['of nothing', 'archive.truncated', Buffer.alloc(0)],
]

describe.each(ARCHIVES)('an archive %s', (_what, code, bytes) => {
  const file = (): string => {
    const path = join(world.folder, 'archive.tar')
    writeFileSync(path, bytes)
    return path
  }

  test(`is ${code} as a seed, and no workspace is made`, async () => {
    const before = await stateOf(world)
    const args = ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--seed-path', file()]
    expect(await problemsOf(before, { code, refusal: await onCli(world, args) })).toEqual([])
  })

  test(`is ${code} as a push, and no file is written`, async () => {
    const before = await stateOf(world)
    expect(
      await problemsOf(before, { code, refusal: await onCli(world, ['workspace', 'sync', 'push', 'fix', file()]) }),
    ).toEqual([])
    expect((await ws.diff()).result.entries.map(({ path }) => path)).toEqual(['kept.txt'])
    expect((await ws.exec('ls -A / /etc | grep -c evil')).stdout).toBe('0\n')
  })

  test(`is ${code} as a push over HTTP`, async () => {
    const before = await stateOf(world)
    const frames = [
      encodeJsonFrame(FRAME.input, { dest: 'sub' }),
      ...(bytes.length === 0 ? [] : [encodeFrame(FRAME.data, bytes)]),
      encodeFrame(FRAME.data, new Uint8Array(0)),
    ]
    const headers = { 'content-type': FRAMES_CONTENT_TYPE }
    const path = '/v1/workspaces/fix/push'
    const refusal = await onHttp(world, { path, headers, body: Buffer.concat(frames) })
    expect(await problemsOf(before, { code, refusal })).toEqual([])
  })
})

describe('a seed path', () => {
  const place = (name: string): string => join(project, name)

  test.each([
    ['that is missing', 'path.not-found', (): string => 'missing'],
    ['that is a plain file', 'path.not-a-file', (): string => (writeFileSync(place('plain'), ''), 'plain')],
    ['that is a named pipe', 'path.not-a-file', (): string => (execFileSync('mkfifo', [place('pipe')]), 'pipe')],
    [
      'that is a device',
      'path.not-a-file',
      (): string => (execFileSync('mknod', [place('dev'), 'c', '1', '3']), 'dev'),
    ],
  ] as const)('%s is %s', async (_what, code, make) => {
    const name = make()
    const before = await stateOf(world)
    const seeded = ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--seed-path', place(name)]
    expect(await problemsOf(before, { code, refusal: await onCli(world, seeded) })).toEqual([])
    expect(
      await problemsOf(before, {
        code,
        refusal: await onCli(world, ['workspace', 'sync', 'push', 'fix', place(name)]),
      }),
    ).toEqual([])
    const refusal = await onMcp(host, 'workspace_create', { environment: ENVIRONMENT, seed: name })
    // What is neither file nor folder is no path that a model may name.
    const onlyFiles = ['pipe', 'dev'].includes(name) ? 'host-path.not-allowed' : code
    expect(await problemsOf(before, { code: onlyFiles, refusal })).toEqual([])
  })

  test('that is a socket is path.not-a-file', async () => {
    const server = createServer().listen(place('socket'))
    try {
      const before = await stateOf(world)
      const args = ['workspace', 'create', ENVIRONMENT, '--seed-path', place('socket')]
      expect(await problemsOf(before, { code: 'path.not-a-file', refusal: await onCli(world, args) })).toEqual([])
    } finally {
      server.close()
    }
  })

  test('that even root may not read is path.unreadable', async () => {
    const before = await stateOf(world)
    const args = ['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--seed-path', '/proc/sys/net/ipv4/route']
    expect(await problemsOf(before, { code: 'path.unreadable', refusal: await onCli(world, args) })).toEqual([])
  })

  test('that is no git work tree is refused for --seed-git', async () => {
    const before = await stateOf(world)
    const folder = volatileFolder('no-git-')
    const refusal = await onCli(world, ['workspace', 'create', ENVIRONMENT, '--seed-git', folder])
    expect(await problemsOf(before, { code: 'input.invalid', refusal })).toEqual([])
    execFileSync('rmdir', [folder])
  })
})

describe('an export', () => {
  test('over something that exists is path.exists and leaves it as it is', async () => {
    const there = join(project, 'there.txt')
    writeFileSync(there, 'mine')
    const before = await stateOf(world)
    const args = ['workspace', 'export', 'fix', 'kept.txt', '--output', there]
    expect(await problemsOf(before, { code: 'path.exists', refusal: await onCli(world, args) })).toEqual([])
    const input = { workspace: 'fix', path: 'kept.txt', output: 'there.txt' }
    expect(
      await problemsOf(before, { code: 'path.exists', refusal: await onMcp(host, 'workspace_export', input) }),
    ).toEqual([])
    expect(readFileSync(there, 'utf8')).toBe('mine')
    expect(readdirSync(project).filter((name) => name.includes('there'))).toEqual(['there.txt'])
  })

  test('to a folder that is missing, or from a path that is, is path.not-found', async () => {
    const before = await stateOf(world)
    for (const [path, output] of [
      ['kept.txt', 'no/such/folder'],
      ['nosuch', 'out'],
    ] as const) {
      const args = ['workspace', 'export', 'fix', path, '--output', join(project, output)]
      expect(await problemsOf(before, { code: 'path.not-found', refusal: await onCli(world, args) })).toEqual([])
    }
    expect(readdirSync(project)).not.toContain('out')
  })
})

describe('over HTTP', () => {
  const RAW: readonly (readonly [what: string, code: ErrorCode, raw: RawRequest])[] = [
    ['wrong JSON', 'input.invalid', { path: '/v1/workspaces', body: '{"environment": ' }],
    ['JSON that is no object', 'input.invalid', { path: '/v1/workspaces', body: '["debian:12"]' }],
    ['an unknown field', 'input.invalid', { path: '/v1/workspaces', body: '{"enviroment":"debian:12"}' }],
    ['a field of another type', 'input.invalid', { path: '/v1/workspaces', body: '{"environment":12}' }],
    [
      'a field of the path in the body',
      'input.invalid',
      { path: '/v1/workspaces/fix/reset', body: '{"workspace":"x"}' },
    ],
    [
      'a prototype in the body',
      'input.invalid',
      { path: '/v1/workspaces', body: '{"__proto__":{"a":1},"constructor":1}' },
    ],
    ['no command', 'input.invalid', { path: '/v1/workspaces/fix/exec', body: '{}' }],
    ['an empty command', 'input.invalid', { path: '/v1/workspaces/fix/exec', body: '{"command":[]}' }],
    ['NUL in a path', 'input.invalid', { path: '/v1/workspaces/fix/file/read', body: '{"path":"a\\u0000b"}' }],
    ['a body beyond the limit', 'limit.exceeded', { path: '/v1/workspaces', body: `{"name":"${'x'.repeat(70_000)}"}` }],
    ['an unknown route', 'input.invalid', { path: '/v1/nosuch' }],
    ['an unknown method', 'input.invalid', { path: '/v1/workspaces/fix', method: 'PUT' }],
    ['a path that climbs', 'input.invalid', { path: '/v1/workspaces/..%2f..%2fetc/reset/x/y', body: '{}' }],
    ['a name of two dots', 'workspace.not-found', { path: '/v1/workspaces/../reset', body: '{}' }],
    ['a name of one dot', 'input.invalid', { method: 'DELETE', path: '/v1/workspaces/fix/snapshots/.' }],
    ['a path of slashes', 'input.invalid', { method: 'GET', path: '//' }],
    ['a path that is not encoded', 'input.invalid', { path: '/v1/workspaces/%ff%fe/reset', body: '{}' }],
    ['a query twice', 'input.invalid', { method: 'GET', path: '/v1/environments?a=1&a=2' }],
    [
      'an endless request id',
      'input.invalid',
      { path: '/v1/doctor', body: '{}', headers: { 'pyro-request': 'x'.repeat(65) } },
    ],
    [
      'frames that are none',
      'input.invalid',
      { path: '/v1/workspaces', headers: { 'content-type': FRAMES_CONTENT_TYPE }, body: 'no frames' },
    ],
    [
      'a frame that promises too much',
      'input.invalid',
      {
        path: '/v1/workspaces',
        headers: { 'content-type': FRAMES_CONTENT_TYPE },
        body: Buffer.from([FRAME.input, 0xff, 0xff, 0xff, 0xff, 0x7b]),
      },
    ],
    [
      'frames that begin with data',
      'input.invalid',
      {
        path: '/v1/workspaces',
        headers: { 'content-type': FRAMES_CONTENT_TYPE },
        body: Buffer.from(encodeFrame(FRAME.data, Buffer.from('x'))),
      },
    ],
  ]

  test.each(RAW)('%s is refused with %s', async (_what, code, raw) => {
    const before = await stateOf(world)
    expect(await problemsOf(before, { code, refusal: await onHttp(world, raw) })).toEqual([])
  })

  test('a seed that breaks off makes no workspace', async () => {
    const before = await stateOf(world)
    const head = encodeJsonFrame(FRAME.input, { ...create, seed: { mode: 'path', source: 'x' } })
    const body = Buffer.concat([head, encodeFrame(FRAME.data, tarOf(manyFiles(3)).subarray(0, 700))])
    const headers = { 'content-type': FRAMES_CONTENT_TYPE }
    const refusal = await onHttp(world, { path: '/v1/workspaces', headers, body })
    expect(await problemsOf(before, { code: 'archive.truncated', refusal })).toEqual([])
  })
})

describe('over MCP', () => {
  const INPUTS: readonly (readonly [what: string, tool: string, input: Record<string, unknown>])[] = [
    ['an unknown field', 'workspace_exec', { workspace: 'fix', command: 'true', shell: true }],
    ['a field of another type', 'workspace_exec', { workspace: 1, command: 'true' }],
    ['a missing field', 'workspace_exec', { workspace: 'fix' }],
    ['an empty command', 'workspace_exec', { workspace: 'fix', command: [] }],
    ['a time that is none', 'workspace_exec', { workspace: 'fix', command: 'true', timeoutMs: -1 }],
    ['a size that is none', 'file_read', { workspace: 'fix', path: 'kept.txt', maxLines: 0 }],
  ]

  test.each(INPUTS)('%s is refused, and the parameters are named', async (_what, tool, input) => {
    const before = await stateOf(world)
    expect(await problemsOf(before, { code: 'input.invalid', refusal: await onMcp(host, tool, input) })).toEqual([])
  })

  test('a message beyond the limit is answered, and the server goes on', async () => {
    const before = await stateOf(world)
    const stdin = 'x'.repeat(9 * 1024 * 1024)
    const call = host.call('workspace_exec', { workspace: 'fix', command: 'cat', stdin })
    await expect(call).rejects.toThrow(/limit\.exceeded: a message has at most \d+ bytes; nothing was done/)
    expect((await host.call('file_read', { workspace: 'fix', path: 'kept.txt' })).text).toBe('kept')
    expect(await untilAsBefore(world, before)).toEqual(before)
  })

  test('a tool that is none is an error of the protocol', async () => {
    await expect(host.call('workspace_destroy', {})).rejects.toThrow(/workspace_destroy/)
  })

  test.each([
    ['above the project', '../outside'],
    ['absolute, elsewhere', '/etc/cron.d/evil'],
    ['through a symlink', 'link/evil'],
    ['into .git', '.git/hooks/post-checkout'],
    ['into a .git of a submodule', 'sub/.git/config'],
    ['with NUL', 'a\u0000b'],
    ['of nothing', ''],
  ])('a host path %s is refused for writing', async (_what, output) => {
    mkdirSync(join(project, '.git', 'hooks'), { recursive: true })
    mkdirSync(join(project, 'sub', '.git'), { recursive: true })
    if (!readdirSync(project).includes('link')) symlinkSync(world.folder, join(project, 'link'))
    const outside = readdirSync(world.folder)
    const before = await stateOf(world)
    const exported = await onMcp(host, 'workspace_export', { workspace: 'fix', path: 'kept.txt', output, force: true })
    const diffed = await onMcp(host, 'workspace_diff', { workspace: 'fix', output })
    for (const refusal of [exported, diffed]) {
      const code = output === '' || output.includes('\u0000') ? 'input.invalid' : 'host-path.not-allowed'
      expect(await problemsOf(before, { code, refusal })).toEqual([])
    }
    expect(readdirSync(world.folder)).toEqual(outside)
    expect(readdirSync(join(project, '.git', 'hooks'))).toEqual([])
  })

  test.each([
    ['above the project', '..'],
    ['absolute, elsewhere', '/etc'],
    ['through a symlink', 'link'],
  ])('a host path %s is refused for reading', async (_what, source) => {
    if (!readdirSync(project).includes('link')) symlinkSync(world.folder, join(project, 'link'))
    const before = await stateOf(world)
    const pushed = await onMcp(host, 'sync_push', { workspace: 'fix', source })
    const seeded = await onMcp(host, 'workspace_create', { environment: ENVIRONMENT, seed: source })
    for (const refusal of [pushed, seeded])
      expect(await problemsOf(before, { code: 'host-path.not-allowed', refusal })).toEqual([])
  })
})
