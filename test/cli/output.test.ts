import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tarOf } from '../support/tar.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'
import { onTerminal, runLine, TerminalLine } from './shell.ts'

/** A terminal's own: cursor, colours, cleared lines. */
const CLEARED_LINE = '\r\u001b[K'
const GREEN = '\u001b[32m'

let world: World
let ws: Workspace
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'fix', keep: true })
  await ws.snapshots.create('green')
  await ws.files.write('notes.txt', 'one\ntwo\n')
})
afterAll(() => world[Symbol.asyncDispose]())

/** The document on standard output. */
const documentOf = async (args: readonly string[]): Promise<unknown> => {
  const { stdout, stderr } = await world.cli([...args, '--json'])
  expect(stderr).toBe('')
  expect(stdout.trimEnd().split('\n')).toHaveLength(1)
  return JSON.parse(Buffer.from(stdout, 'latin1').toString())
}

describe('what a command of the user prints', () => {
  test('comes on the stream it was printed on, and nothing else does', async () => {
    const { code, stdout, stderr } = await world.cli([
      'workspace',
      'exec',
      'fix',
      '--',
      'echo out; echo err >&2; exit 3',
    ])
    expect({ code, stdout, stderr }).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' })
  })

  test('goes in and comes out byte by byte', async () => {
    const input = randomBytes(3_000_000)
    const { code, stdout, stderr } = await world.cli(['workspace', 'exec', 'fix', '--stdin', '--', 'cat'], { input })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(Buffer.from(stdout, 'latin1').equals(input)).toBe(true)
  })

  test('leaves standard input alone without --stdin', async () => {
    const { stdout } = await runLine(world, `printf 'a\\nb\\n' | while read -r x; do pyro ws exec fix -- echo $x; done`)
    expect(stdout).toBe('a\nb\n')
  })

  test('ends when nobody reads it any more, and the command with it', async () => {
    const { stdout } = await runLine(world, 'pyro ws exec fix -- yes | head -n 2; echo ${PIPESTATUS[0]}')
    expect(stdout).toBe('y\ny\n141\n')
    await until(async () => (await ws.commands.list({ running: true })).length === 0, 'yes to end')
  })
})

describe('the exit code of exec', () => {
  test.each([
    ['the command gave', 0, ['--', 'true']],
    ['the command gave, too', 77, ['--', 'exit 77']],
    ['stands for a time that was over', 124, ['--timeout', '200ms', '--', 'sleep', '60']],
    ['stands for what cannot run', 126, ['--', '/etc/passwd']],
    ['stands for what is not there', 127, ['--', 'nosuch-program']],
    ['stands for a signal', 128 + 9, ['--', 'kill -9 $$']],
    ['stands for Pyro itself', 125, ['--user']],
  ] as const)('that %s is %i, with --json, too', async (_what, code, args) => {
    for (const json of [[], ['--json']]) {
      expect((await world.cli(['workspace', 'exec', 'fix', ...json, ...args])).code).toBe(code)
    }
  })
})

describe('--json', () => {
  test.each([
    ['workspace list', async () => ({ workspaces: await world.pyro.workspaces.list() })],
    ['workspace status fix', () => ws.status()],
    ['workspace snapshot list fix', async () => ({ snapshots: await ws.snapshots.list() })],
    ['workspace snapshot inspect fix green', () => ws.snapshots.inspect('green')],
    ['workspace diff fix', async () => (await ws.diff()).result],
    ['workspace file read fix notes.txt', () => ws.files.read('notes.txt')],
    ['env list', async () => ({ environments: await world.pyro.environments.list() })],
    [`env inspect ${ENVIRONMENT}`, () => world.pyro.environments.inspect(ENVIRONMENT)],
    ['daemon status', () => world.pyro.engine.status()],
  ])('of %s is what the SDK gives', async (line, ask) => {
    const document = await documentOf(line.split(' '))
    expect(document).toEqual(await ask())
  })

  test('of exec is the result of the command, with its exit code as exit code', async () => {
    const { code, stdout } = await world.cli(['workspace', 'exec', 'fix', '--json', '--', 'echo hi; exit 7'])
    const result = await ws.exec('echo hi; exit 7')
    const volatile = { commandId: '', sequence: 0, startedAt: '', durationMs: 0 }
    expect(code).toBe(7)
    expect({ ...(JSON.parse(stdout) as object), ...volatile }).toEqual({ ...result, ...volatile })
  })

  test('of logs --follow is one document a line, the last one the command', async () => {
    // Two pieces: the second is printed when the first was seen.
    const command = await ws.exec('echo one; until [ -e /run/seen ]; do sleep 0.05; done; echo two', { detach: true })
    for await (const text of command.stdout) if (text === 'one\n') break
    await ws.exec(['touch', '/run/seen'], { check: true })
    const { commandId } = command
    const { stdout } = await world.cli(['ws', 'logs', 'fix', '--command', commandId, '--follow', '--json'])
    const documents = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { text?: string; commandId?: string })
    expect(documents.slice(0, -1).map(({ text }) => text)).toEqual(['one\n', 'two\n'])
    expect(documents.at(-1)).toMatchObject({ commandId, exitCode: 0 })
  })

  test('of logs --follow has every byte: text is never cut within a character, and what is no text comes as Base64', async () => {
    const parts = [String.raw`a\303`, String.raw`\244\342\202`, String.raw`\254`, String.raw`\377`, String.raw`b\303`]
    const { commandId } = await ws.exec(parts.map((part) => `printf '${part}'`).join('; sleep 0.2; '), { detach: true })
    const { stdout } = await world.cli(['ws', 'logs', 'fix', '--command', commandId, '--follow', '--json'])
    const pieces = Buffer.from(stdout, 'latin1')
      .toString()
      .trimEnd()
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { text: string; textBase64?: string })
    const textOf = (piece: (typeof pieces)[number]): string => piece.text
    expect(pieces.map(textOf).join('')).toBe('aä€\ufffdb\ufffd')
    expect(pieces.filter((piece) => (piece.textBase64 === undefined) === textOf(piece).includes('\ufffd'))).toEqual([])
    const bytes = pieces.map(({ text, textBase64 }) =>
      textBase64 === undefined ? Buffer.from(text) : Buffer.from(textBase64, 'base64'),
    )
    expect(Buffer.concat(bytes).toString('latin1')).toBe(Buffer.from('aä€').toString('latin1') + '\xffb\xc3')
  })

  test('of logs --follow says what is missing, in its place', async () => {
    await world.restartEngine({ PYRO_LIMITS: '{"commandLogBytes":4096}' })
    try {
      const { commandId } = await ws.exec('head -c 10000 /dev/zero | tr "\\0" x; echo; echo end', { detach: true })
      await ws.commands.wait(commandId)
      const { stdout } = await world.cli(['ws', 'logs', 'fix', '--command', commandId, '--follow', '--json'])
      const lines = stdout.trimEnd().split('\n')
      const pieces = lines
        .map((line) => JSON.parse(line) as { type?: string; bytes?: number; text?: string })
        .slice(0, -1)
      const kept = pieces.reduce((size, { text = '' }) => size + text.length, 0)
      expect(kept).toBeGreaterThan(0)
      expect(pieces.at(-1)).toEqual({ type: 'gap', bytes: 10_000 + '\nend\n'.length - kept })
    } finally {
      world.unset('PYRO_LIMITS')
      await world.restartEngine()
    }
  })

  test('is understood before the words, too', async () => {
    const { stdout } = await world.cli(['--json', 'workspace', 'list'])
    expect(JSON.parse(stdout)).toHaveProperty('workspaces')
  })

  test.each(['--json=true', '--json=false --json'])('is on as %s', async (flags) => {
    for (const [line, key] of [
      ['workspace list', 'workspaces'],
      ['workspace status nosuch', 'error'],
    ] as const) {
      const { stdout, stderr } = await world.cli([...line.split(' '), ...flags.split(' ')])
      expect(stderr).toBe('')
      expect(JSON.parse(stdout)).toHaveProperty(key)
    }
  })

  test.each(['--json=false', '--json --json=false'])('is off as %s', async (flags) => {
    const { stdout } = await world.cli([...flags.split(' '), 'workspace', 'list'])
    expect(stdout).toMatch(/^NAME /)
  })
})

describe('standard output', () => {
  test('of --id-only has ids alone', async () => {
    const listed = await world.cli(['ws', 'ls', '--id-only'])
    expect(listed).toEqual({ code: 0, stdout: `${ws.id}\n`, stderr: '' })
    const created = await runLine(world, `pyro ws create ${ENVIRONMENT} --driver runc --id-only --quiet`)
    expect(created.stderr).toBe('')
    expect(created.stdout).toMatch(/^ws-[a-z2-7]{12}\n$/)
    const deleted = await world.cli(['workspace', 'rm', created.stdout.trim(), '--quiet'])
    expect(deleted).toMatchObject({ code: 0, stderr: '' })
  })

  test('says what was done, and with --quiet nothing', async () => {
    const commands = [
      ['workspace', 'snapshot', 'create', 'fix', 'passing'],
      ['workspace', 'update', 'fix', '--label', 'kind=test'],
      ['workspace', 'snapshot', 'delete', 'fix', 'passing'],
    ]
    for (const command of commands) {
      const loud = await world.cli(command)
      expect(loud.stdout).not.toBe('')
      if (command.includes('delete')) await ws.snapshots.create('passing')
      if (command.includes('create')) await ws.snapshots.delete('passing')
      expect(await world.cli([...command, '--quiet'])).toEqual({ code: 0, stdout: '', stderr: '' })
    }
  })

  test('of diff is the patch, what has to be said about it is on standard error', async () => {
    const { stdout, stderr } = await world.cli(['workspace', 'diff', 'fix'])
    const { patch } = await ws.diff()
    expect(stdout).toBe(Buffer.from(patch).toString('latin1'))
    expect(stderr).toBe('1 added\n')
    for (const quiet of ['--quiet', '-q', '--quiet=true', '-q=true'])
      expect(await world.cli(['workspace', 'diff', 'fix', quiet])).toMatchObject({ stdout, stderr: '' })
    expect((await world.cli(['workspace', 'diff', 'fix', '--quiet=false'])).stderr).toBe(stderr)
  })

  test('of diff to - is the patch, and no file of that name', async () => {
    const cwd = mkdtempSync(join(world.folder, 'cwd-'))
    const { stdout } = await world.cli(['workspace', 'diff', 'fix'])
    expect(await world.cli(['workspace', 'diff', 'fix', '--output', '-'], { cwd })).toMatchObject({ code: 0, stdout })
    for (const other of ['--json', '--stat', '--name-only']) {
      const { code } = await world.cli(['workspace', 'diff', 'fix', '--output', '-', other], { cwd })
      expect(code).toBe(2)
    }
    expect(readdirSync(cwd)).toEqual([])
  })

  test('of a file that goes on says so beside it, also where nobody looks, unless --quiet', async () => {
    const lines = Array.from({ length: 401 }, (_, index) => `${index + 1}\n`)
    await ws.files.write('long.txt', lines.join(''))
    const read = await world.cli(['workspace', 'file', 'read', 'fix', 'long.txt'])
    expect(read).toEqual({
      code: 0,
      stdout: lines.slice(0, 400).join(''),
      stderr: 'the file goes on: --start-line 401\n',
    })
    const bytes = await world.cli(['workspace', 'file', 'read', 'fix', 'long.txt', '--offset', '0', '--max-bytes', '4'])
    expect(bytes).toEqual({ code: 0, stdout: '1\n2\n', stderr: 'the file goes on: --offset 4\n' })
    const quiet = await world.cli(['workspace', 'file', 'read', 'fix', 'long.txt', '--quiet'])
    expect(quiet).toEqual({ ...read, stderr: '' })
    await ws.exec('rm long.txt')
  })

  test('of export to - is the file', async () => {
    const { stdout } = await world.cli(['workspace', 'export', 'fix', 'notes.txt', '--output', '-'])
    expect(stdout).toBe('one\ntwo\n')
  })

  test('shows no control characters of names and commands', async () => {
    await ws.exec(['printf', '\u001b[31mred\u001b[0m'])
    const { stdout } = await world.cli(['workspace', 'command', 'list', 'fix'])
    expect(stdout).toContain(String.raw`printf '\x1b[31mred\x1b[0m'`)
    expect(stdout).not.toContain('\u001b')
  })

  test('shows no control characters of paths, and neither does standard error', async () => {
    const seed = join(world.folder, 'seed\u001b[31m')
    mkdirSync(seed)
    writeFileSync(join(seed, 'file'), '')
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(seed, 'socket\u001b[32m\n'), resolve))
    const odd = 'to\u001b[33m\n'
    const ends = [
      await world.cli(['workspace', 'file', 'write', 'fix', odd, '--text', 'hi']),
      await world.cli(['workspace', 'sync', 'push', 'fix', seed, '--dest', `dest${odd}`]),
      await world.cli(['workspace', 'export', 'fix', odd, '--output', join(world.folder, `out${odd}`)]),
      await world.cli(['workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--name', 'odd', '--seed-path', seed]),
      await world.cli(['workspace', 'status', 'odd']),
      await world.cli(['workspace', 'delete', 'odd']),
      await world.cli(['workspace', 'file', 'read', 'fix', 'none\u001b[31m\n']),
    ]
    server.close()
    const shown = ends.map(({ stdout, stderr }) => stdout + stderr).join('')
    expect(shown).not.toContain('\u001b')
    const escaped = String.raw`to\x1b[33m\n`
    for (const text of [
      `created /workspace/${escaped} (2 B`,
      `to /workspace/dest${escaped}`,
      `out${escaped}\n`,
      String.raw`left out: socket\x1b[32m\n (`,
      String.raw`from seed\x1b[31m`,
      String.raw`"none\x1b[31m\n"`,
    ])
      expect(shown).toContain(text)
    await ws.exec(['rm', '-r', odd, `dest${odd}`], { check: true })
  })
})

describe('on a terminal', () => {
  test('exec ends with a summary, and without one elsewhere', async () => {
    const { screen, code } = await onTerminal(world, 'pyro ws exec fix -- sh -c "exit 4"')
    expect(code).toBe(4)
    expect(screen).toMatch(/^exit 4 · .* · cmd-[a-z2-7]{12}\r\n$/)
    const quiet = await onTerminal(world, 'pyro ws exec fix --quiet -- true')
    expect(quiet.screen).toBe('')
  })

  test('progress is shown and taken away, and never in a file', async () => {
    const log = join(world.folder, 'talk.txt')
    writeFileSync(join(world.folder, 'root.tar'), tarOf([{ name: 'bin/tool', mode: 0o755, content: 'x' }]))
    const shown = await onTerminal(world, 'pyro env import mine root.tar')
    expect(shown.screen).toContain(CLEARED_LINE)
    expect(shown.screen.split(CLEARED_LINE).at(-1)).toMatch(/^mine · .* sha256:\w+\r\nimported in .*\r\n$/)
    const filed = await onTerminal(world, `pyro env import mine --replace root.tar 2> ${log}`)
    expect(filed.screen).toMatch(/^mine · .* sha256:\w+\r\n$/)
    expect(readFileSync(log, 'utf8')).toMatch(/^imported in .*\n$/)
    await world.pyro.environments.remove('mine')
  })

  test('without one, what takes long is said now and then', async () => {
    writeFileSync(join(world.folder, 'root.tar'), tarOf([{ name: 'bin/tool', mode: 0o755, content: 'x' }]))
    const slowly = '(head -c 512 root.tar; sleep 7; tail -c +513 root.tar) | pyro env import slow -'
    const { code, stderr } = await runLine(world, slowly)
    expect(stderr).toMatch(/^receiving slow 512 B\nimported in .*\n$/)
    expect(code).toBe(0)
    await world.pyro.environments.remove('slow')
  })

  test('doctor is coloured, unless NO_COLOR says otherwise', async () => {
    const coloured = await onTerminal(world, 'pyro doctor')
    expect(coloured.screen).toContain(GREEN)
    const plain = await onTerminal(world, 'pyro doctor', { env: { NO_COLOR: '1' } })
    expect(plain.screen).not.toContain('\u001b')
    const piped = await onTerminal(world, 'pyro doctor | cat')
    expect(piped.screen).not.toContain('\u001b')
  })

  test('delete --all asks first, and takes anything but yes for no', async () => {
    await using terminal = new TerminalLine(world, 'pyro ws delete --all --label owner=nobody; pyro ws delete --all')
    await terminal.sees('nothing to delete')
    await terminal.sees('Delete 1 workspace with all snapshots, for ever? [y/N] ')
    terminal.type('n\r')
    expect(await terminal.ended()).toBe(0)
    expect(terminal.screen).toContain('nothing was deleted')
    expect(await world.pyro.workspaces.list()).toHaveLength(1)
  })

  test('delete --all --yes, or without a terminal, asks nobody', async () => {
    for (const line of ['pyro ws rm --all --label a=b --yes', 'pyro ws rm --all --label a=b < /dev/null']) {
      await using other = await world.pyro.workspaces.create({
        environment: ENVIRONMENT,
        driver: 'runc',
        labels: { a: 'b' },
      })
      const { screen } = await onTerminal(world, line)
      expect(screen).toContain(`deleted ${other.id}`)
    }
  })
})

describe('an operation that needs the sandbox of a stopped workspace', () => {
  test('starts it and says so', async () => {
    await ws.stop()
    const exec = await world.cli(['workspace', 'exec', 'fix', '--', 'echo hi'])
    expect(exec).toEqual({ code: 0, stdout: 'hi\n', stderr: 'fix was stopped; it was started for this\n' })
    await ws.stop()
    const read = await world.cli(['workspace', 'file', 'read', 'fix', 'notes.txt'])
    expect(read).toEqual({ code: 0, stdout: 'one\ntwo\n', stderr: 'fix was stopped; it was started for this\n' })
  })
})

describe('a mistyped line', () => {
  test('is refused when it has bytes that are no text, but not for U+FFFD', async () => {
    for (const word of [String.raw`$'a\xff'`, String.raw`--env=V=$'\xff'`]) {
      const { code, stderr } = await runLine(world, `pyro ws exec fix ${word} -- true`)
      expect({ code, stderr }).toEqual({ code: 125, stderr: expect.stringContaining('an argument is not UTF-8') })
    }
    expect(await runLine(world, "pyro ws exec fix -- printf %s '\uFFFD'")).toMatchObject({ code: 0, stdout: '\uFFFD' })
  })

  test('short options may stand together', async () => {
    const { code, stdout, stderr } = await runLine(world, 'printf x | pyro ws exec -iq fix -- cat')
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'x', stderr: '' })
  })

  test.each([
    ['wrkspace list', 'pyro has no command "wrkspace"', 'did you mean: pyro workspace'],
    ['exec fix', 'pyro has no command "exec"', 'did you mean: pyro workspace exec'],
    ['snapshot create fix x', 'pyro has no command "snapshot"', 'did you mean: pyro workspace snapshot'],
    ['pull debian:12', 'pyro has no command "pull"', 'did you mean: pyro env pull'],
    ['ls', 'pyro has no command "ls"', 'did you mean: pyro workspace list'],
    ['ps', 'pyro has no command "ps"', 'did you mean: pyro workspace list'],
    ['workspace lst', 'pyro workspace has no command "lst"', 'did you mean: pyro workspace list'],
    ['workspace status fxi', 'there is no workspace "fxi"', 'did you mean fix? pyro workspace list'],
    ['workspace reset fix --snapshot gren', '"fix" has no snapshot "gren"', 'did you mean green?'],
    ['env inspect debain:12', 'environment debain:12 is neither', 'did you mean debian:12?'],
    ['workspace reset fix --snapsot green', 'has no option --snapsot', 'did you mean: --snapshot'],
    ['workspace exec -it fix -- true', 'has no option -t', 'pyro workspace exec --help'],
    ['workspace exec -ie fix -- true', '--env needs a value', 'pyro workspace exec --help'],
    ['workspace create --driver rnc', '--driver "rnc" is none of', 'did you mean: --driver runc'],
    ['mcp install claude', 'cannot be installed into "claude"', 'did you mean: pyro mcp install claude-code'],
    ['workspace exec fix ls', 'takes no argument "ls" here', 'put the command behind --'],
  ])('pyro %s is told what was meant', async (line, what, hint) => {
    const { code, stdout, stderr } = await world.cli(line.split(' '))
    expect(code).toBeGreaterThan(0)
    expect(stdout).toBe('')
    const [first = '', second = '', ...more] = stderr.trimEnd().split('\n')
    expect(first).toContain(what)
    expect(second).toContain(`hint: ${hint}`)
    expect(more).toEqual([])
  })
})
