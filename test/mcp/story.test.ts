import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, ENVIRONMENT, until, World } from '../support/world.ts'
import { McpHost, type HostOptions } from './mcp-host.ts'

/** A host gives a call up after 30 s or more; the server answers before that. */
const ANSWERS_WITHIN_MS = 25_000

let world: World
/** A git work tree with one modified, one new and one ignored file. */
let project: string
beforeAll(async () => {
  world = await World.open()
  await world.pyro.environments.pull(ENVIRONMENT)
  project = mkdtempSync(join(world.folder, 'project-'))
  const git = (...args: string[]): Buffer => execFileSync('git', args, { cwd: project })
  writeFileSync(join(project, 'main.sh'), 'echo one\n')
  writeFileSync(join(project, '.gitignore'), 'dist/\n')
  git('init', '--quiet')
  git('add', '.')
  git('-c', 'user.name=T', '-c', 'user.email=t@example.org', 'commit', '--quiet', '--message', 'Begin')
  writeFileSync(join(project, 'main.sh'), 'echo two\n')
  writeFileSync(join(project, 'new.txt'), 'new\n')
  mkdirSync(join(project, 'dist'))
  writeFileSync(join(project, 'dist', 'built'), 'x')
})
afterAll(() => world[Symbol.asyncDispose]())

/** The server as an installed host starts it. */
const serve = (options: Partial<HostOptions> & { readonly args?: readonly string[] } = {}): Promise<McpHost> =>
  McpHost.start({
    env: { ...process.env, ...world.env },
    command: [process.execPath, CLI, 'mcp', 'serve', '--project-path', project, ...(options.args ?? [])],
    ...options,
  })

const idIn = (text: string): string => /ws-[a-z2-7]{12}/.exec(text)?.[0] ?? ''
const commandIn = (text: string): string => /cmd-[a-z2-7]{12}/.exec(text)?.[0] ?? ''

/** Calls a tool that must work, and gives what the model reads. */
const textOf = async (host: McpHost, tool: string, input: Record<string, unknown>): Promise<string> => {
  const { text, isError, structured } = await host.call(tool, input)
  expect({ text: isError ? text : '', structured }).toEqual({ text: '', structured: undefined })
  return text
}

describe('the work of an agent', () => {
  test('from create to delete is told in few words, each of which the next step needs', async () => {
    await using host = await serve()
    const created = await textOf(host, 'workspace_create', { environment: ENVIRONMENT, name: 'fix', isolation: 'auto' })
    expect(created).toMatch(
      /^ws-[a-z2-7]{12} "fix" running · debian:12-base \(.*no compilers\) · gvisor · network off · 2 vCPU 2048 MiB\n\/workspace: 3 files of the git work tree \(1 modified, 1 new, 1 ignored left out\)$/,
    )
    const workspace = idIn(created)

    const ran = await textOf(host, 'workspace_exec', { workspace, command: 'sh main.sh; echo oops >&2; exit 1' })
    expect(ran).toMatch(/^exit 1 · \d+ m?s · cmd-[a-z2-7]{12}\n(?:two\noops|oops\ntwo)$/)
    const written = await textOf(host, 'file_write', { workspace, path: 'main.sh', text: 'echo three\n' })
    expect(written).toBe('overwrote main.sh · 11 B')
    expect(await textOf(host, 'file_read', { workspace, path: 'main.sh' })).toBe('echo three')
    const made = await textOf(host, 'snapshot_create', { workspace, name: 'green' })
    expect(made).toMatch(/^snapshot "green" · [\d.]+ m?s$/)

    await textOf(host, 'workspace_exec', { workspace, command: 'rm -rf /workspace/* /usr/bin/env; touch /tmp/junk' })
    await textOf(host, 'workspace_exec', { workspace, command: ['sleep', '600'], waitMs: 0 })
    const listed = await textOf(host, 'workspace_list', {})
    expect(listed).toMatch(
      /^ws-\S+ "fix" running · debian:12-base · gvisor · active [\d.]+ m?s ago · snapshots baseline, green · running cmd-\S+$/,
    )
    const reset = await textOf(host, 'workspace_reset', { workspace, snapshot: 'green', saveAs: 'broken' })
    expect(reset.split('\n')).toEqual([
      expect.stringMatching(/^reset to "green" in [\d.]+ m?s$/),
      'the former state is kept as "broken"',
      'gone: history of 3 commands, 1 running command (sleep 600)',
      '1 file differs from baseline',
      'snapshots: baseline, green, broken',
    ])

    const diff = await textOf(host, 'workspace_diff', { workspace, output: 'work.patch' })
    expect(diff).toMatch(
      /^wrote work\.patch · \d+ B\n1 modified · \+1 -1\nthe workspace was reset to "green", which is newer than the baseline/,
    )
    const copy = join(world.folder, 'copy')
    cpSync(project, copy, { recursive: true })
    execFileSync('git', ['apply', join(project, 'work.patch')], { cwd: copy })
    expect(readFileSync(join(copy, 'main.sh'), 'utf8')).toBe('echo three\n')

    const exported = await textOf(host, 'workspace_export', { workspace, path: 'main.sh', output: 'dist/main.sh' })
    expect(exported).toBe('wrote dist/main.sh · 11 B')
    expect(readFileSync(join(project, 'dist', 'main.sh'), 'utf8')).toBe('echo three\n')
    const pushed = await textOf(host, 'sync_push', { workspace })
    expect(pushed).toMatch(/^4 files, \d+ B into \/workspace$/)
    expect(await textOf(host, 'workspace_delete', { workspace })).toBe('deleted "fix" with 2 snapshots')
    expect(await textOf(host, 'workspace_list', {})).toBe('no workspaces')
    rmSync(join(project, 'work.patch'))
  })

  test('names the reason of a failure and the tool that helps', async () => {
    await using host = await serve()
    const failed = await host.call('workspace_exec', { workspace: 'nosuch', command: 'true' })
    expect(failed).toEqual({
      isError: true,
      text: 'workspace.not-found: there is no workspace "nosuch"\nhint: workspace_list',
      structured: undefined,
    })
  })

  test('is not misled by what a command prints', async () => {
    await using host = await serve()
    const workspace = idIn(await textOf(host, 'workspace_create', { environment: ENVIRONMENT, seed: 'none' }))
    const command = String.raw`printf '\033[31mred\033[0m\n10%%\r50%%\r100%%\n'; seq 1 100000`
    const text = await textOf(host, 'workspace_exec', { workspace, command })
    const [headline = '', red, progress] = text.split('\n')
    expect(headline).toMatch(/^exit 0 · /)
    expect([red, progress]).toEqual(['red', '100%'])
    expect(Buffer.byteLength(text)).toBeLessThan(9 * 1024)
    expect(text).toMatch(/\n… [\d.]+ KiB \(\d[\d,]* lines\) left out: command_wait .*\n/)
    expect(text.endsWith('\n99999\n100000')).toBe(true)
    const offset = Number(/"?offset"?: ?(\d+)/.exec(text)?.[1])
    const more = await textOf(host, 'command_wait', { workspace, commandId: commandIn(text), offset, maxBytes: 1000 })
    expect(more).toMatch(/\n\d+\n\d+\n/)
    await textOf(host, 'workspace_delete', { workspace })
  })
})

describe('a call that takes longer than a host waits', () => {
  test('answers in time, and command_wait has the rest', async () => {
    await using host = await serve()
    const workspace = idIn(await textOf(host, 'workspace_create', { environment: ENVIRONMENT, seed: 'none' }))
    const startedAt = Date.now()
    const command = 'echo begun; sleep 27; echo done'
    const text = await textOf(host, 'workspace_exec', { workspace, command, waitMs: 60_000 })
    expect(Date.now() - startedAt).toBeLessThan(ANSWERS_WITHIN_MS)
    expect(text).toMatch(/^still running after 2\d s · last output 2\d s ago · cmd-[a-z2-7]{12}\nbegun$/)
    const rest = await textOf(host, 'command_wait', { workspace, commandId: commandIn(text) })
    expect(rest).toMatch(/^exit 0 · 2\d s · cmd-[a-z2-7]{12}\nbegun\ndone$/)
    await textOf(host, 'workspace_delete', { workspace })
  })

  test('a create goes on, and is found by its name, also when the engine is killed meanwhile', async () => {
    await using host = await McpHost.start({
      env: { ...process.env, ...world.env },
      projectPath: project,
      callLimitMs: 6_000,
    })
    await world.restartEngine({ PYRO_FAULT: 'workspace.create/populate:hang' })
    const input = { environment: ENVIRONMENT, name: 'slow', seed: 'none' }
    const first = await textOf(host, 'workspace_create', input)
    expect(first).toMatch(/^"slow" · phase: creating · .* so far\nworkspace_list .*slow.* says when it is running$/)
    world.unset('PYRO_FAULT')
    await world.killEngine()
    await until(
      async () => (await host.call('workspace_list', { workspace: 'slow' })).text.includes(' running · '),
      'the create to be repeated',
      60_000,
    )
    expect(await textOf(host, 'workspace_delete', { workspace: 'slow' })).toBe('deleted "slow" with 0 snapshots')
  })
})

describe('a call that its host cancels', () => {
  test('ends the command it waits for, and all that this started', async () => {
    await using host = await serve()
    const workspace = idIn(await textOf(host, 'workspace_create', { environment: ENVIRONMENT, seed: 'none' }))
    const cancel = new AbortController()
    const command = 'setsid sleep 611 & trap "" INT TERM; while :; do sleep 0.1; done'
    const call = host.call('workspace_exec', { workspace, command }, { signal: cancel.signal })
    const ws = await world.pyro.workspaces.get(workspace)
    await until(async () => (await ws.status()).lastCommand?.running === true, 'the command to run')
    cancel.abort()
    await expect(call).rejects.toThrow(/abort/i)
    await until(async () => (await ws.status()).lastCommand?.running === false, 'the command to end')
    expect((await ws.exec('cat /proc/[0-9]*/cmdline')).stdout).not.toContain('611')
    await textOf(host, 'workspace_delete', { workspace })
  })

  test('leaves no workspace of a create', async () => {
    await using host = await serve()
    await world.restartEngine({ PYRO_FAULT: 'workspace.create/populate:hang' })
    const cancel = new AbortController()
    const input = { environment: ENVIRONMENT, name: 'never', seed: 'none' }
    const call = host.call('workspace_create', input, { signal: cancel.signal })
    await until(async () => (await world.pyro.workspaces.list()).length === 1, 'the create to be under way')
    cancel.abort()
    await expect(call).rejects.toThrow(/abort/i)
    await until(async () => (await world.pyro.workspaces.list()).length === 0, 'the workspace to go')
    world.unset('PYRO_FAULT')
    await world.restartEngine()
    expect(await textOf(host, 'workspace_list', {})).not.toContain('running')
  })
})

describe('progress', () => {
  test('tells of a command what it printed last', async () => {
    await using host = await serve()
    const workspace = idIn(await textOf(host, 'workspace_create', { environment: ENVIRONMENT, seed: 'none' }))
    const heard: string[] = []
    const onprogress = ({ message }: { message?: string | undefined }): void => void heard.push(message ?? '')
    const command = 'for n in 1 2 3 4 5 6; do echo step $n; sleep 0.5; done'
    await host.call('workspace_exec', { workspace, command }, { onprogress })
    expect(heard.length).toBeGreaterThan(0)
    for (const message of heard) expect(message).toMatch(/^step \d$/)
    await textOf(host, 'workspace_delete', { workspace })
  })
})

describe('the profile run', () => {
  test('has one tool that runs the project in a machine of its own', async () => {
    await using host = await serve({ args: ['--profile', 'run'] })
    expect((await host.client.listTools()).tools.map(({ name }) => name)).toEqual(['run'])
    const text = await textOf(host, 'run', { environment: ENVIRONMENT, command: 'sh main.sh; ls' })
    expect(text).toMatch(/^exit 0 · .*\n(?:.*\n)*two\nmain\.sh\nnew\.txt$/)
    expect(await world.pyro.workspaces.list()).toEqual([])
  })
})

describe('the profile full', () => {
  test('says the same as text and as structure', async () => {
    await using host = await serve({ args: ['--profile', 'full'] })
    const created = await host.call('workspace_create', { environment: ENVIRONMENT, seed: 'none', name: 'both' })
    const status = await world.pyro.workspaces.get('both')
    expect(created.structured).toMatchObject({ workspaceId: status.id, name: 'both', phase: 'running', created: true })
    const deleted = await host.call('workspace_delete', { workspace: 'both' })
    expect(deleted.structured).toMatchObject({ deleted: [{ name: 'both', snapshots: 0 }] })
  })
})
