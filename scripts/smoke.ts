// `npm run smoke -- --driver D`: create, snapshot, mutate, reset and diff on one driver, in a home of its own. Each line is a thing
// that was seen; the first that is not as it must be ends the run with exit code 1.
import { mkdtemp, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { isPyroError, Pyro, type Workspace } from '@pyro/sdk'
import { HostRun } from '../test/support/host-run.ts'
import { seconds } from './story/timing.ts'

const ENVIRONMENT = 'debian:12-base'
const USAGE_EXIT_CODE = 2

const { values } = parseArgs({ options: { driver: { type: 'string' } } })
if (values.driver === undefined) {
  process.stderr.write('usage: npm run smoke -- --driver firecracker|qemu|runsc|runc\n')
  process.exit(USAGE_EXIT_CODE)
}

using run = await HostRun.begin()
process.env['PYRO_RUNTIME_DIR'] = run.runtimeDir
const folder = await mkdtemp(join(tmpdir(), 'pyro-smoke-'))
process.env['PYRO_HOME'] = join(folder, 'home')
await mkdir(join(folder, 'home'))

/** Shows what came of a step and how long it took. */
async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const result = await work()
  process.stdout.write(`ok  ${what} (${seconds(performance.now() - begun)})\n`)
  return result
}

function expect(what: string, seen: unknown, wanted: unknown): void {
  const [left, right] = [JSON.stringify(seen), JSON.stringify(wanted)]
  if (left !== right) throw new Error(`${what}: ${left} instead of ${right}`)
}

async function lookAt(workspace: Workspace, command: string): Promise<string> {
  return (await workspace.exec(command, { check: true })).stdout.trim()
}

async function smoke(pyro: Pyro, driver: string): Promise<void> {
  const options = { environment: ENVIRONMENT, driver: driver as 'runc', memoryMib: 512, diskMib: 1024 }
  await step(`environment ${ENVIRONMENT}`, () => pyro.environments.pull(ENVIRONMENT))
  await using workspace = await step(`create on ${driver}`, () => pyro.workspaces.create(options))
  const { isolation, emulated } = await workspace.status()
  process.stdout.write(`    isolation ${isolation}${emulated ? ', emulated' : ''}\n`)
  expect('exec', await step('exec', () => lookAt(workspace, 'echo $((6 * 7))')), '42')
  await workspace.exec('echo kept > kept; sync', { check: true })
  await step('snapshot', () => workspace.snapshots.create('before'))
  const boot = await lookAt(workspace, 'cat /proc/sys/kernel/random/boot_id')
  await workspace.exec('echo changed > kept; echo x > /etc/x; rm /usr/bin/env; sleep 1000 & echo y > /tmp/y')
  const { result } = await step('diff', () => workspace.diff({ root: '/', patch: false }))
  const paths = result.entries.map(({ path }) => path)
  for (const path of ['etc/x', 'usr/bin/env', 'workspace/kept'])
    expect(`the diff has ${path}`, paths.includes(path), true)
  await step('reset to the snapshot', () => workspace.reset({ snapshot: 'before' }))
  expect(
    'the file is back',
    await lookAt(workspace, 'cat kept; ls -d /usr/bin/env; test ! -e /etc/x'),
    'kept\n/usr/bin/env',
  )
  expect('the machine is another', (await lookAt(workspace, 'cat /proc/sys/kernel/random/boot_id')) === boot, false)
  const after = await step('diff to the snapshot', () => workspace.diff({ root: '/', from: 'before', patch: false }))
  expect('nothing differs', after.result.entries, [])
  await step('stop and start', async () => {
    await workspace.stop()
    expect('the file is kept', await lookAt(workspace, 'cat kept'), 'kept')
  })
  await step('reset to the baseline', () => workspace.reset())
  expect('the seed is back', await lookAt(workspace, 'ls -A'), '')
}

const pyro = await Pyro.connect()
try {
  await smoke(pyro, values.driver)
} catch (error) {
  const hint = isPyroError(error) && error.hint !== null ? `\n    ${error.hint}` : ''
  process.stderr.write(`FAILED  ${error instanceof Error ? error.message : String(error)}${hint}\n`)
  process.exitCode = 1
} finally {
  await pyro.engine.shutdown({ workspaces: true })
  pyro.close()
}
