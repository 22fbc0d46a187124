import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import type { Workspace } from '@pyro/sdk'
import { DriverWorkspaces } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { rejectionOf } from '../support/rejection.ts'
import { until, World } from '../support/world.ts'

/** By then a command has begun and printed. */
const TIMEOUT_MS = 3_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const workspaces = new DriverWorkspaces(() => world)

describe('exec', () => {
  onEveryDriver('exec.argv-and-text', async (driver) => {
    const ws = await workspaces.of(driver)
    const words = ['printf', '<%s>', 'a b', '$HOME', '*', '', "it's", '"', 'back\\slash', 'new\nline', 'ü']
    const exact = await ws.exec(words)
    expect(exact.stdout).toBe('<a b><$HOME><*><><it\'s><"><back\\slash><new\nline><ü>')
    expect(exact).toMatchObject({ command: words, exitCode: 0, signal: null, timedOut: false, limit: null, stderr: '' })
    const text = await ws.exec('echo $HOME; for i in 1 2; do echo "$i"; done | tac; exit 7')
    expect(text).toMatchObject({ stdout: '/root\n2\n1\n', exitCode: 7, state: 'exited' })
    const login = await ws.exec('echo "$0 $-"; umask')
    expect(login.stdout).toMatch(/sh .*\n0022\n$/)
  })

  onEveryDriver('exec.folder-user-variables', async (driver) => {
    const ws = await workspaces.of(driver)
    const shown = 'printf "%s|" "$PWD" "$HOME" "$USER" "$LANG" "$PATH"; id -un; id -gn'
    expect((await ws.exec(shown)).stdout).toBe(
      '/workspace|/root|root|C.UTF-8|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|root\nroot\n',
    )
    await ws.exec('useradd --create-home --uid 4321 --groups www-data ann; mkdir -p "/workspace/sub dir"', {
      check: true,
    })
    const ann = await ws.exec(`${shown}; id -Gn; touch ~/mine && stat -c %U ~/mine`, { user: 'ann', cwd: 'sub dir' })
    expect(ann.stdout).toMatch(
      /^\/workspace\/sub dir\|\/home\/ann\|ann\|C\.UTF-8\|[^|]*\|ann\nann\nann www-data\nann\n$/,
    )
    expect(ann.cwd).toBe('/workspace/sub dir')
    expect((await ws.exec(['id', '-u'], { user: '4321' })).stdout).toBe('4321\n')
    expect((await ws.exec(['id', '-u'], { user: '5555' })).stdout).toBe('5555\n')
    expect((await ws.exec(['id'], { user: 'ann:www-data' })).stdout).toContain('gid=33(www-data)')
    expect((await ws.exec('su -s /bin/sh -c "id -un; id -Gn" ann')).stdout).toBe('ann\nann www-data\n')
    const env = { GREETING: 'two words', EMPTY: '', LANG: 'C', PATH: '/usr/bin:/bin', HOME: '/tmp' }
    const own = await ws.exec(
      ['sh', '-c', 'printf "%s|" "$GREETING" "${EMPTY-unset}" "$LANG" "$PATH" "$HOME" "$PWD"'],
      {
        env,
        cwd: '/etc',
      },
    )
    expect(own.stdout).toBe('two words||C|/usr/bin:/bin|/tmp|/etc|')
    const path = "/opt/it's here:/bin"
    const inText = await ws.exec('echo "$PATH"', { env: { PATH: path } })
    expect(inText.stdout).toBe(`${path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n`)
    const environment = await ws.exec(['env'])
    expect(environment.stdout).not.toContain('PYRO_HOME')
  })

  onEveryDriver('exec.stdin', async (driver) => {
    const ws = await workspaces.of(driver)
    expect((await ws.exec(['wc', '-c'])).stdout.trim()).toBe('0')
    expect((await ws.exec(['cat'], { stdin: 'text\0and ü' })).stdout).toBe('text\0and ü')
    const megabytes = Buffer.alloc(5 * 1024 * 1024, 'pyro')
    expect((await ws.exec(['md5sum'], { stdin: megabytes })).stdout).toBe(
      (await ws.exec(['sh', '-c', 'yes pyro | tr -d "\\n" | head -c 5242880 | md5sum'])).stdout,
    )
    const asked: string[] = []
    const answered = Promise.withResolvers<void>()
    const conversation = async function* (): AsyncGenerator<string> {
      yield 'one\n'
      await answered.promise
      yield 'two\n'
    }
    const talk = await ws.exec('read a; echo "got $a"; read b; echo "got $b"; read c || echo end', {
      stdin: conversation(),
      onStdout: (text) => {
        asked.push(text)
        answered.resolve()
      },
    })
    expect(talk.stdout).toBe('got one\ngot two\nend\n')
    expect(asked[0]).toBe('got one\n')
    const deaf = await ws.exec('exec <&-; echo done', { stdin: megabytes })
    expect(deaf).toMatchObject({ exitCode: 0, stdout: 'done\n' })
  })

  onEveryDriver('exec.exit-codes', async (driver) => {
    const ws = await workspaces.of(driver)
    await ws.exec(
      'echo text > /workspace/plain; chmod 644 /workspace/plain; echo "#!/no/such" > /workspace/lost; chmod +x /workspace/lost',
      { check: true },
    )
    const ends = async (
      command: string | string[],
      options: { cwd?: string; user?: string } = {},
    ): Promise<unknown[]> => {
      const { exitCode, signal, stderr } = await ws.exec(command, options)
      return [exitCode, signal, stderr]
    }
    expect(await ends(['true'])).toEqual([0, null, ''])
    expect(await ends('exit 255')).toEqual([255, null, ''])
    expect(await ends(['no-such-program', 'x'])).toEqual([
      127,
      null,
      expect.stringMatching(/^pyro: no-such-program: .+\n$/),
    ])
    expect(await ends(['/no/such/path'])).toEqual([127, null, expect.stringContaining('/no/such/path')])
    expect(await ends(['/workspace/plain'])).toEqual([126, null, expect.stringContaining('not executable')])
    expect(await ends(['/workspace'])).toEqual([126, null, expect.stringContaining('is a folder')])
    expect(await ends(['/workspace/lost'])).toEqual([
      expect.toSatisfy((code) => code === 126 || code === 127),
      null,
      expect.stringContaining('/workspace/lost'),
    ])
    expect(await ends(['true'], { cwd: '/no/folder' })).toEqual([126, null, expect.stringContaining('/no/folder')])
    expect(await ends(['true'], { cwd: '/workspace/plain' })).toEqual([
      126,
      null,
      expect.stringContaining('not a folder'),
    ])
    expect(await ends(['true'], { user: 'nobody-here' })).toEqual([126, null, expect.stringContaining('nobody-here')])
    expect(await ends(['true'], { user: '65536' })).toEqual([126, null, expect.stringContaining('0 to 65535')])
    expect(await ends(['true', 'x'.repeat(128 * 1024)])).toEqual([126, null, expect.stringContaining('128 KiB')])
    expect(await ends('no-such-program')).toEqual([127, null, expect.stringContaining('not found')])
    for (const [name, number] of [
      ['TERM', 15],
      ['KILL', 9],
      ['SEGV', 11],
      ['USR1', 10],
      ['ABRT', 6],
    ] as const) {
      expect(await ends(['sh', '-c', `kill -${name} $$`])).toEqual([128 + number, name, ''])
    }
    await expect(ws.exec(['false'], { check: true })).rejects.toMatchObject({
      code: 'command.failed',
      data: { command: { exitCode: 1 } },
    })
  })

  onEveryDriver('exec.timeout', async (driver) => {
    const ws = await workspaces.of(driver)
    const script = [
      'trap "" TERM HUP INT',
      'echo begun; echo trouble >&2',
      'sleep 86301 & setsid sleep 86302 & (trap "" TERM; sleep 86303; true) &',
      'setsid sh -c "setsid sleep 86304 & exec sleep 86305" &',
      'wait',
    ].join('\n')
    const begun = Date.now()
    const result = await ws.exec(script, { timeoutMs: TIMEOUT_MS })
    expect(result).toMatchObject({
      exitCode: 124,
      timedOut: true,
      stdout: 'begun\n',
      stderr: 'trouble\n',
      state: 'exited',
    })
    expect(result.durationMs).toBeGreaterThanOrEqual(TIMEOUT_MS)
    expect(Date.now() - begun).toBeLessThan(60_000)
    expect(await sleepers(ws, '8630')).toEqual([])
    // The longest that the contract has: a hundred years.
    expect(await ws.exec(['echo', 'in time'], { timeoutMs: 36_500 * 86_400_000 })).toMatchObject({
      stdout: 'in time\n',
      timedOut: false,
    })
  })

  onEveryDriver('exec.signals', async (driver) => {
    const ws = await workspaces.of(driver)
    const script =
      'trap "echo got INT; exit 3" INT; trap "echo got USR1" USR1; echo ready; while :; do sleep 0.05; done'
    const sender = Promise.withResolvers<(signal: 'INT' | 'USR1') => void>()
    const ready = Promise.withResolvers<void>()
    const usr1 = Promise.withResolvers<void>()
    const running = ws.exec(['sh', '-c', script], {
      control: (send) => sender.resolve(send),
      onStdout: (text) => (text.includes('ready') ? ready.resolve() : usr1.resolve()),
    })
    await ready.promise
    const send = await sender.promise
    send('USR1')
    await usr1.promise
    send('INT')
    expect(await running).toMatchObject({ exitCode: 3, stdout: 'ready\ngot USR1\ngot INT\n' })
    // One that does not read its input is reached past all of it.
    const started = Promise.withResolvers<void>()
    const behind = Promise.withResolvers<(signal: 'INT') => void>()
    const deaf = ws.exec(['sh', '-c', 'echo up; exec sleep 60'], {
      stdin: Buffer.alloc(4_000_000),
      onStdout: () => started.resolve(),
      control: (past) => behind.resolve(past),
    })
    await started.promise
    const past = await behind.promise
    past('INT')
    expect(await deaf).toMatchObject({ signal: 'INT', exitCode: 130 })
  })

  onEveryDriver('exec.cancel', async (driver) => {
    const ws = await workspaces.of(driver)
    const cancel = new AbortController()
    const started = Promise.withResolvers<string>()
    const running = ws.exec('echo begun; sleep 86311 & setsid sleep 86312 & wait', {
      signal: cancel.signal,
      onStarted: ({ commandId }) => started.resolve(commandId),
    })
    const refused = rejectionOf(running)
    const commandId = await started.promise
    await until(async () => (await sleepers(ws, '8631')).length === 2, 'both sleeps')
    cancel.abort()
    expect(await refused).toMatchObject({ code: 'request.cancelled' })
    expect(await ws.commands.wait(commandId, { timeoutMs: 60_000 })).toMatchObject({
      exitCode: 137,
      signal: 'KILL',
      stdout: 'begun\n',
    })
    expect(await sleepers(ws, '8631')).toEqual([])
  })

  onEveryDriver('exec.background-child', async (driver) => {
    const ws = await workspaces.of(driver)
    const child =
      'until [ -e /workspace/go ]; do echo tick; sleep 0.02; done; seq 20000; echo survived > /workspace/survivor'
    const result = await ws.exec(`(${child}) & echo main`)
    expect(result).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^main$/m) })
    await ws.exec(['touch', '/workspace/go'], { check: true })
    await until(
      async () => (await ws.exec(['cat', '/workspace/survivor'])).stdout === 'survived\n',
      'the child to end by itself',
    )
  })

  onEveryDriver('exec.set-uid', async (driver) => {
    const ws = await workspaces.of(driver)
    await ws.exec('cp /usr/bin/id /usr/local/bin/root-id && chmod 4755 /usr/local/bin/root-id', { check: true })
    const raised = await ws.exec(['/usr/local/bin/root-id', '-u'], { user: 'nobody' })
    expect(raised.stdout).toBe('0\n')
  })

  onEveryDriver('exec.command-line', async (driver) => {
    const ws = await workspaces.of(driver)
    const exec = (...args: string[]) => world.cli(['workspace', 'exec', ws.name, ...args])
    expect(await exec('--', 'printf', '%s,', 'a b', '$HOME')).toEqual({ code: 0, stdout: 'a b,$HOME,', stderr: '' })
    expect(await exec('--', 'echo $HOME; echo trouble >&2; exit 9')).toEqual({
      code: 9,
      stdout: '/root\n',
      stderr: 'trouble\n',
    })
    expect((await exec('--', 'sh', '-c', 'kill -TERM $$')).code).toBe(143)
    expect((await exec('--timeout', '300ms', '--', 'sleep', '86321')).code).toBe(124)
    expect((await exec('--', 'no-such-program')).code).toBe(127)
    const stdin = await world.cli(
      ['workspace', 'exec', ws.name, '-i', '-w', '/etc', '-e', 'A=b', '--', 'cat; pwd; echo $A'],
      { input: 'typed\n' },
    )
    expect(stdin).toEqual({ code: 0, stdout: 'typed\n/etc\nb\n', stderr: '' })
    const json = await exec('--json', '--', 'exit 4')
    expect(json.code).toBe(4)
    expect(JSON.parse(json.stdout)).toMatchObject({ exitCode: 4, workspaceId: ws.id })
    const failed = await world.cli(['workspace', 'exec', `${ws.name}x`, '--json', '--', 'true'])
    expect(failed.code).toBe(125)
    expect(JSON.parse(failed.stdout)).toMatchObject({
      error: { code: 'workspace.not-found', hint: expect.stringContaining(ws.name) },
    })
  })
})

/** Arguments of the `sleep` processes inside that begin like this. */
const sleepers = async (ws: Workspace, prefix: string): Promise<string[]> => {
  await sleep(50)
  const { stdout } = await ws.exec([
    'sh',
    '-c',
    'for f in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$f"; echo; done 2>/dev/null',
  ])
  return [...stdout.matchAll(/^sleep (\d+) $/gm)]
    .map(([, argument]) => argument ?? '')
    .filter((argument) => argument.startsWith(prefix))
}
