import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BY_HAND, PROJECT, QUICKSTART, type Step } from './lines.ts'

const root = join(import.meta.dirname, '..', '..')
const LINE_DEADLINE_MS = 5 * 60_000
const COLUMNS = 160
const CLEAR_LINE = '\u001b[K'
/** Nothing that moves, and no pager. */
const PLAIN = { NO_COLOR: '1', TERM: 'dumb', PAGER: 'cat' }

const INTRO = `# First run

Made by \`npm run first-run\`, which types every line below and keeps what is printed; the tests do the same and compare all but times and sizes.`

export interface Telling {
  /** Folder that gets the project and the commands; made and removed by the caller. */
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
}

/** Types every line on a terminal and gives the document. */
export async function tellFirstRun({ folder, env }: Telling): Promise<string> {
  const home = join(folder, 'user')
  const project = join(home, 'sums')
  makeProject(project)
  const shell = { env: { ...env, ...PLAIN, HOME: home, PATH: pathWithPyro(folder, env) }, home, project }
  const quickstart = `node '${join(root, 'scripts', 'quickstart.ts')}' ~/sums`
  const parts = [INTRO, QUICKSTART.says, block([await typed(shell, QUICKSTART.lines[0] ?? '', quickstart)])]
  for (const step of BY_HAND) parts.push(step.says, block(await typedAll(shell, step)))
  return `${parts.join('\n\n')}\n`
}

/** Times, sizes and ids differ from run to run, and how many paths Debian's packages have: for comparing two tellings. */
export function withoutMeasures(document: string): string {
  return document
    .replaceAll(/\b(?:ws|cmd)-[a-z2-7]{12}\b/g, 'ID')
    .replaceAll(/\b\d+ (paths added|changed|deleted|ignored ones)\b/g, 'N $1')
    .replaceAll(/\b(?:\d+ m )?\d+(?:\.\d+)? ?(?:ms|s)\b/g, 'TIME')
    .replaceAll(/\b\d+(?:\.\d+)? (?:B|kB|MB|GB|bytes)\b/g, 'SIZE')
    .replaceAll(/(?:\bnow|TIME ago)$/gm, 'AGE')
    .replaceAll(/ +/g, ' ')
}

interface Shell {
  readonly env: NodeJS.ProcessEnv
  /** Shown as `~`. */
  readonly home: string
  readonly project: string
}

async function typedAll(shell: Shell, { lines }: Step): Promise<readonly string[]> {
  const texts: string[] = []
  for (const line of lines) texts.push(await typed(shell, line))
  return texts
}

/** A line and what it shows on a terminal; `really` runs instead of it where the reader's own set-up is not at hand. */
async function typed({ env, home, project }: Shell, line: string, really = line): Promise<string> {
  const options = ['--quiet', '--flush', '--return', '--command', `stty cols ${COLUMNS}; ${really}`, '/dev/null']
  const child = spawn('script', options, {
    cwd: project,
    env: { ...env, SHELL: '/bin/bash' },
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: LINE_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  let screen = ''
  child.stdout.on('data', (chunk: Buffer) => (screen += chunk.toString()))
  await once(child, 'close')
  return `$ ${line}\n${shown(screen)
    .split('\n')
    .map((text) => withTilde(text, home))
    .join('\n')}`.trimEnd()
}

/** What is left on the screen: a line that was written over is what it was last. */
function shown(screen: string): string {
  return screen
    .replaceAll('\r\n', '\n')
    .split('\n')
    .map((line) => (line.split('\r').at(-1) ?? '').replace(CLEAR_LINE, '').trimEnd())
    .join('\n')
}

/** The shorter path keeps the column of a time at the end. */
function withTilde(line: string, home: string): string {
  const text = line.replaceAll(home, '~')
  return text.replace(/ {2,}(?=\S+ s$)/, (gap) => gap + ' '.repeat(line.length - text.length))
}

function block(texts: readonly string[]): string {
  return ['```console', ...texts, '```'].join('\n')
}

function makeProject(folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, text] of Object.entries(PROJECT)) writeFileSync(join(folder, name), text)
  const git = (...args: string[]): Buffer => execFileSync('git', args, { cwd: folder, stdio: 'pipe' })
  git('init', '--quiet')
  git('add', '--all')
  git('-c', 'user.name=A Reader', '-c', 'user.email=reader@example.org', 'commit', '--quiet', '--message', 'Begin')
}

function pathWithPyro(folder: string, env: NodeJS.ProcessEnv): string {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  const cli = join(root, 'packages', 'cli', 'bin', 'pyro.js')
  writeFileSync(join(bin, 'pyro'), `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`, { mode: 0o755 })
  return [bin, join(root, 'node_modules', '.bin'), env['PATH'] ?? ''].join(':')
}
