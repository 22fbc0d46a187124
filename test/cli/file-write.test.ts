import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdirSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, ENVIRONMENT, until, World } from '../support/world.ts'
import { said } from './provocations.ts'
import { runLine, TerminalLine } from './shell.ts'

const END_OF_INPUT = '\u0004'

let world: World
let ws: Workspace
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'fix', keep: true })
})
afterAll(() => world[Symbol.asyncDispose]())

const WRITE = 'pyro ws file write fix in.txt --quiet'
const written = async (): Promise<string> => (await ws.exec('cat in.txt; rm in.txt')).stdout

describe('the content of a file write', () => {
  test.each([
    ['a named pipe', `mkfifo pipe; (sleep 0.3; echo 1; sleep 0.3; echo 2) > pipe & ${WRITE} --file pipe`],
    ['the output of a program', `${WRITE} --file <(echo 1; sleep 0.3; echo 2)`],
    ['standard input', `(echo 1; sleep 0.3; echo 2) | ${WRITE}`],
    ['standard input by its sign', `(echo 1; sleep 0.3; echo 2) | ${WRITE} --file -`],
    ['standard input by its path', `(echo 1; sleep 0.3; echo 2) | ${WRITE} --file /dev/stdin`],
    ['a file', `printf '1\\n2\\n' > content; ${WRITE} --file content`],
    ['a file as standard input', `printf '1\\n2\\n' > content; ${WRITE} < content`],
  ])('may come from %s', async (_what, line) => {
    expect(await runLine(world, line)).toMatchObject({ code: 0, stderr: '' })
    expect(await written()).toBe('1\n2\n')
  })

  test('may come from a file of the kernel, whose size says nothing', async () => {
    expect(await runLine(world, `${WRITE} --file /proc/sys/kernel/ostype`)).toMatchObject({ code: 0 })
    expect(await written()).toBe('Linux\n')
  })

  test('may come from standard input that is a socket, whatever it is called', async () => {
    for (const name of ['-', '/dev/stdin']) {
      const { code } = await world.cli(['workspace', 'file', 'write', 'fix', 'in.txt', '--file', name], { input: 'in' })
      expect(code).toBe(0)
      expect(await written()).toBe('in')
    }
  })

  test('may be typed', async () => {
    await using terminal = new TerminalLine(world, `echo ready; ${WRITE} --file /dev/tty`)
    await terminal.sees('ready')
    terminal.type(`typed\r${END_OF_INPUT}`)
    expect(await terminal.ended()).toBe(0)
    expect(await written()).toBe('typed\n')
  })

  test('that is too much, or has no end, is refused when the limit is reached', async () => {
    const huge = join(world.folder, 'huge')
    writeFileSync(huge, '')
    truncateSync(huge, 1024 ** 4)
    for (const file of [huge, '/dev/zero']) {
      const error = await said(world, ['workspace', 'file', 'write', 'fix', 'in.txt', '--file', file])
      expect(error).toMatchObject({ code: 'limit.exceeded', exit: 5 })
    }
    expect(await runLine(world, `yes | ${WRITE}; echo $?`)).toMatchObject({ stdout: '5\n' })
  })

  test('that cannot be read is a typed error', async () => {
    mkdirSync(join(world.folder, 'folder'))
    for (const [file, code] of [
      ['nosuch', 'path.not-found'],
      ['folder', 'path.not-a-file'],
      ['/proc/self/mem', 'path.unreadable'],
    ] as const)
      expect(await said(world, ['workspace', 'file', 'write', 'fix', 'in.txt', '--file', file])).toMatchObject({ code })
  })

  test.each(['SIGINT', 'SIGTERM'] as const)('that does not come can be given up (%s)', async (signal) => {
    const pipe = join(world.folder, `silent-${signal}`)
    execFileSync('mkfifo', [pipe])
    const args = ['workspace', 'file', 'write', 'fix', 'in.txt', '--file', pipe]
    const child = spawn(process.execPath, [CLI, ...args], { env: { ...process.env, ...world.env }, stdio: 'ignore' })
    const closed = once(child, 'close') as Promise<[number | null]>
    try {
      let writer = -1
      // A pipe takes a writer that does not wait as soon as somebody reads it.
      await until(() => (writer = openWriter(pipe)) >= 0, 'the pipe to be read')
      child.kill(signal)
      const [code] = await closed
      closeSync(writer)
      expect(code).toBe(signal === 'SIGINT' ? 130 : 143)
    } finally {
      child.kill('SIGKILL')
    }
    expect((await ws.diff()).result.entries).toEqual([])
  })
})

const openWriter = (pipe: string): number => {
  try {
    return openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    return -1
  }
}
