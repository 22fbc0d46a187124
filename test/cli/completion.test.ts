import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENVIRONMENT, World } from '../support/world.ts'
import { runLine, TerminalLine } from './shell.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
  await world.pyro.environments.pull(ENVIRONMENT)
  const options = { environment: ENVIRONMENT, driver: 'runc', keep: true } as const
  const ws = await world.pyro.workspaces.create({ ...options, name: 'fix-login' })
  await ws.snapshots.create('green')
  mkdirSync(join(world.folder, 'here'))
  writeFileSync(join(world.folder, 'here', 'some-file.tar'), '')
})
afterAll(() => world[Symbol.asyncDispose]())

/** What stands before the cursor, and what is offered for its last word. */
const OFFERS: readonly (readonly [string, readonly string[]])[] = [
  ['pyro wor', ['workspace']],
  ['pyro workspace ex', ['exec', 'export']],
  ['pyro ws snapshot ', ['create', 'delete', 'inspect', 'list']],
  ['pyro workspace status ', ['fix-login']],
  ['pyro workspace reset fix-login --snap', ['--snapshot']],
  ['pyro workspace reset fix-login --snapshot ', ['baseline', 'green']],
  ['pyro workspace snapshot delete fix-login g', ['green']],
  ['pyro workspace create --driver ', ['auto', 'firecracker', 'qemu', 'runc', 'runsc']],
  ['pyro mcp install c', ['claude-code', 'codex', 'cursor']],
  ['pyro completion ', ['bash', 'fish', 'zsh']],
  ['pyro workspace exec fix-login ', ['--']],
  ['pyro workspace status nosuch-', []],
  ['pyro nosuch ', []],
]

/** Words of a line as bash hands them to a completion: cut at `=` and `:`, too. */
const bashWords = (line: string): string[] => line.split(/(?<=[=:])|(?=[=:])| /)

/** The reply that the shell's own machinery would show, a line each. */
const ASK = {
  bash: (line: string): string => {
    const words = bashWords(line)
    const quoted = words.map((word) => `'${word}'`).join(' ')
    return `. <(pyro completion bash); COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _pyro 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`
  },
  zsh: (line: string): string =>
    `compdef() { :; }; compadd() { shift; print -l -- "$@"; }; _files() { print FILES; }; source <(pyro completion zsh); words=(${line.trimEnd()}${line.endsWith(' ') ? " ''" : ''}); CURRENT=$#words; _pyro`,
  fish: (line: string): string => `pyro completion fish | source; complete --do-complete '${line}'`,
} as const

/** Fish offers nothing that begins with a dash before a dash is typed. */
const isShown = (shell: string, line: string, offer: string): boolean =>
  shell !== 'fish' || !offer.startsWith('-') || /-\w*$/.test(line)

const SHELLS = ['bash', 'zsh', 'fish'] as const
const isInstalled = (shell: string): boolean => ['/usr/bin', '/bin'].some((folder) => existsSync(join(folder, shell)))

for (const shell of SHELLS) {
  describe(`completion in ${shell}`, () => {
    if (!isInstalled(shell)) {
      test('has a script that asks pyro, which the shells here try; this one is not installed', async () => {
        const { code, stdout } = await runLine(world, `pyro completion ${shell}`)
        expect(code).toBe(0)
        expect(stdout).toContain('pyro __complete -- ')
      })
      return
    }
    test.each(OFFERS)('of "%s"', async (line, offers) => {
      const { stdout, stderr } = await runLine(world, ASK[shell](line), { shell })
      const shown = stdout.split('\n').filter((text) => text !== '')
      expect(stderr).toBe('')
      expect(shown.toSorted()).toEqual(offers.filter((offer) => isShown(shell, line, offer)))
    })
  })
}

describe('completion in bash', () => {
  test('completes names with a colon, and values behind =', async () => {
    const environment = await runLine(world, ASK.bash('pyro env inspect debian:12-ba'))
    expect(environment.stdout).toBe('12-base\n')
    const snapshot = await runLine(world, ASK.bash('pyro workspace reset fix-login --snapshot=gr'))
    expect(snapshot.stdout).toBe('green\n')
  })

  test('works at a prompt, with a key', async () => {
    await using terminal = new TerminalLine(world, "PS1='ready> ' bash --norc --noprofile -i", { cwd: world.folder })
    await terminal.sees('ready> ')
    terminal.type('source <(pyro completion bash)\r')
    terminal.type('pyro workspace status fix\t')
    await terminal.sees('status fix-login ')
    terminal.type('\u0015pyro env import mine here/so\t')
    await terminal.sees('import mine here/some-file.tar ')
    terminal.type('\u0015exit\r')
    expect(await terminal.ended()).toBe(0)
  })
})

describe('completion', () => {
  test('never starts an engine, and offers what it knows without one', async () => {
    await world.pyro.engine.shutdown()
    expect((await runLine(world, ASK.bash('pyro workspace status '))).stdout.trim()).toBe('')
    expect((await runLine(world, ASK.bash('pyro workspace st'))).stdout).toBe('status\nstop\nstart\n')
    expect(await world.enginePid()).toBeNull()
  })
})
