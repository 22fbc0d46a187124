// The main job of Pyro in a dozen steps, on real input, each checked. The quickstart tells it from the checkout, the check of
// the published packages from an empty folder: so it knows nothing but the SDK and git.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isPyroError, type Pyro, type Workspace } from '@pyro/sdk'
import { DownloadClock, seconds } from './timing.ts'

const ENVIRONMENT = 'debian:12'
const GIT_DEADLINE_MS = 60_000
const NAME_WIDTH = 12
const TEXT_WIDTH = 98
/** Name of the process that is left behind; the kernel keeps 15 characters. */
const LEFT_BEHIND = 'left-behind'

export interface StoryOptions {
  /** Folder of this host whose files the workspace gets. */
  readonly project: string
  readonly print: (line: string) => void
}

export interface StoryResult {
  readonly totalMs: number
  readonly downloadMs: number
}

/** Rejects when any of its claims does not hold. */
export async function tellStory(pyro: Pyro, { project, print }: StoryOptions): Promise<StoryResult> {
  const startedAt = performance.now()
  const clock = new DownloadClock()
  const step = stepPrinter(print)

  await step('environment', async () => {
    const before = clock.downloadMs
    const installed = (await pyro.environments.list()).some(({ name, installed: here }) => name === ENVIRONMENT && here)
    await pyro.environments.pull(ENVIRONMENT, { onProgress: clock.note })
    clock.stop()
    if (installed) return `${ENVIRONMENT} is installed`
    return `${ENVIRONMENT} made from the Debian mirror (downloading ${seconds(clock.downloadMs - before)})`
  })

  await using ws = await step.value('create', async () => {
    const created = await createOnBestDriver(pyro, project)
    const { driver, isolation, seed } = created.info
    return [created, `${driver} (isolation: ${isolation}), ${seed.files} files of ${project} in /workspace`]
  })

  await step('work', async () => {
    await ws.exec(WORK, { check: true })
    const { entries } = (await ws.diff()).result
    claim(entries.length > 0, 'the work shows up in diff')
    return `${entries.length} files changed: ${entries.map(({ path }) => path).join(', ')}`
  })
  await step('snapshot', async () => {
    await ws.snapshots.create('good')
    return 'the whole disk as "good"'
  })
  await step('break', async () => {
    await ws.exec(BREAK, { check: true })
    const lost = await ws.exec(['ls'])
    claim(lost.exitCode === 127, 'a removed program is gone')
    claim((await processes(ws)) === 1, 'the process that was left behind runs')
    return 'emptied /workspace, removed ls and python3, broke /etc/passwd, filled /tmp, left a process running'
  })
  await step('look', async () => {
    const { totals } = (await ws.diff({ from: 'good', root: '/', patch: false })).result
    const { added, modified, deleted, typeChanged, ignored } = totals
    claim(deleted > 0 && added > 0 && modified > 0, 'diff of the whole machine shows the damage')
    return `${added} paths added, ${modified + typeChanged} changed, ${deleted} deleted, ${ignored} ignored ones in the whole machine`
  })
  await step('reset', async () => {
    const reset = await ws.reset({ snapshot: 'good' })
    return `to "good": a new machine, generation ${reset.generation}, ${seconds(reset.durationMs)} until it answered`
  })
  await step('check', async () => {
    const diff = (await ws.diff({ from: 'good', root: '/', patch: false })).result
    claim(diff.clean, `nothing differs from "good": ${JSON.stringify(diff.totals)}`)
    await ws.exec('ls / >/dev/null && python3 -c "print(1)" && test ! -e /tmp/junk && id -u root', { check: true })
    claim((await processes(ws)) === 0, 'the process that was left behind is gone')
    return 'nothing differs from "good" anywhere; programs are back, junk and process are gone'
  })
  await step('hand back', async () => {
    const { patch, result } = await ws.diff()
    checkPatch(project, patch)
    return `a patch of ${result.entries.length} files, ${patch.byteLength} bytes, that git applies to ${project}`
  })
  await step('delete', async () => {
    await ws.delete()
    return 'workspace, disk and snapshots'
  })
  return { totalMs: performance.now() - startedAt, downloadMs: clock.downloadMs }
}

/** The strongest isolation that works here; a plain container only where there is nothing else, and never silently. */
async function createOnBestDriver(pyro: Pyro, project: string): Promise<Workspace> {
  const seed = isGitWorkTree(project) ? { git: project } : { path: project }
  const options = { environment: ENVIRONMENT, seed }
  try {
    return await pyro.workspaces.create(options)
  } catch (error) {
    if (!isPyroError(error) || error.code !== 'isolation.unavailable') throw error
    process.stderr.write(`${error.message}; going on with --driver runc, which is weaker\n`)
    return pyro.workspaces.create({ ...options, driver: 'runc' })
  }
}

const WORK = `set -e
printf 'Written in a Pyro workspace on %s.\\n' "$(uname -sr)" > pyro-was-here.txt
readme=$(find . -maxdepth 1 -iname 'readme*' -type f | head -n 1)
if [ -n "$readme" ]; then printf '\\nTried in a Pyro workspace.\\n' >> "$readme"; fi
python3 -c 'import json, pathlib; pathlib.Path("numbers.json").write_text(json.dumps([n * n for n in range(9)]) + "\\n")'`

const BREAK = `set -e
cp /bin/sleep /tmp/${LEFT_BEHIND}
setsid /tmp/${LEFT_BEHIND} 86400 </dev/null >/dev/null 2>&1 &
for n in 1 2 3 4 5 6 7 8; do echo junk > /tmp/junk-$n; done; mkdir /tmp/junk
find /workspace -mindepth 1 -delete
echo broken > /etc/passwd
echo changed >> /usr/share/common-licenses/Apache-2.0
rm -f /usr/bin/python3* /bin/ls`

/** How many processes of the left-behind program the machine has, asked without any program but the shell. */
async function processes(ws: Workspace): Promise<number> {
  const count = `n=0; for f in /proc/[0-9]*/comm; do read -r c < "$f" && [ "$c" = ${LEFT_BEHIND} ] && n=$((n+1)); done; echo $n`
  const { stdout } = await ws.exec(['/bin/sh', '-c', count], { cwd: '/' })
  return Number(stdout)
}

function isGitWorkTree(folder: string): boolean {
  try {
    return git(folder, ['rev-parse', '--is-inside-work-tree']).trim() === 'true'
  } catch (error) {
    if ((error as { status?: unknown }).status === 128) return false
    throw error
  }
}

/** Asks git whether the patch applies, and changes nothing. */
function checkPatch(project: string, patch: Uint8Array): void {
  const folder = mkdtempSync(join(tmpdir(), 'pyro-story-'))
  try {
    const file = join(folder, 'work.patch')
    writeFileSync(file, patch)
    git(project, ['apply', '--check', file])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function git(folder: string, args: readonly string[]): string {
  return execFileSync('git', ['-c', 'safe.directory=*', ...args], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: GIT_DEADLINE_MS,
  })
}

function claim(holds: boolean, what: string): void {
  if (!holds) throw new Error(`the story does not hold: ${what}`)
}

interface StepPrinter {
  (name: string, action: () => Promise<string>): Promise<void>
  value<T>(name: string, action: () => Promise<[T, string]>): Promise<T>
}

function stepPrinter(print: (line: string) => void): StepPrinter {
  const value = async <T>(name: string, action: () => Promise<[T, string]>): Promise<T> => {
    const startedAt = performance.now()
    const [result, text] = await action()
    print(`${name.padEnd(NAME_WIDTH)} ${text.padEnd(TEXT_WIDTH)} ${seconds(performance.now() - startedAt).padStart(8)}`)
    return result
  }
  const step = async (name: string, action: () => Promise<string>): Promise<void> => {
    await value(name, async () => [undefined, await action()])
  }
  return Object.assign(step, { value })
}
