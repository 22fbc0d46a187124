import { mkdtemp, rm } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FirecrackerApi } from './api.ts'
import { addDrive, configureMachine, describeInstance, loadSnapshot, pause, startInstance } from './requests.ts'
import { TestServer } from './test-server.ts'

let folder: string
let socket: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pyro-api-'))
  socket = join(folder, 'api.sock')
})
afterEach(() => rm(folder, { recursive: true }))

const never = new AbortController().signal
const files = { memory: '/memory', state: '/state' }
const startFailed = (message: RegExp | string, request: string): object =>
  expect.objectContaining({
    code: 'workspace.start-failed',
    message: typeof message === 'string' ? message : expect.stringMatching(message),
    data: { request },
  })

describe('the API of Firecracker', () => {
  test('is waited for until somebody listens', async () => {
    const connecting = FirecrackerApi.connect(socket, never)
    await sleep(20)
    await using server = await TestServer.listen(socket)
    const api = await connecting
    expect(await api.send(describeInstance)).toEqual({ state: 'Not started', vmm_version: '1.16.1' })
    expect(server.seen).toEqual([])
  })

  test('is waited for no longer than the caller likes', async () => {
    const reason = new Error('enough')
    const over = new AbortController()
    const connecting = FirecrackerApi.connect(socket, over.signal)
    over.abort(reason)
    await expect(connecting).rejects.toBe(reason)
  })

  test('refuses with its own words, of which no more is kept than fits a message', async () => {
    await using server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    await expect(api.send(pause)).rejects.toEqual(
      startFailed('firecracker refused PATCH /vm: not supported before the start', 'PATCH /vm'),
    )
    server.instead.set('PATCH /vm', (response) => {
      response.writeHead(400)
      response.end(JSON.stringify({ fault_message: `\u001b[31m${'x'.repeat(10_000)}` }))
    })
    await expect(api.send(pause)).rejects.toEqual(startFailed(/^.{40,600}$/, 'PATCH /vm'))
    await expect(api.send(pause)).rejects.not.toThrow('\u001b')
  })

  test('takes a snapshot only before anything is configured', async () => {
    await using _server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    await api.send(configureMachine({ vcpus: 1, memoryMib: 256 }))
    await expect(api.send(loadSnapshot(files))).rejects.toEqual(startFailed(/fresh process/, 'PUT /snapshot/load'))
  })

  test('starts nothing without a kernel, and takes no drive once there is a machine', async () => {
    await using _server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    await expect(api.send(startInstance)).rejects.toEqual(startFailed(/no boot source/, 'PUT /actions'))
    expect(await api.send(loadSnapshot(files))).toBeNull()
    const drive = addDrive({ id: 'disk0', path: '/disk', writable: true })
    await expect(api.send(drive)).rejects.toEqual(startFailed(/after the start/, 'PUT /drives/disk0'))
  })

  test('takes a drive by names that paths may have, and no others', async () => {
    await using _server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    const drive = addDrive({ id: 'disk0', path: '/disk', writable: true })
    await api.send(drive)
    const other = { ...drive, path: '/drives/disk1' }
    await expect(api.send(other)).rejects.toEqual(startFailed(/another one/, 'PUT /drives/disk1'))
    const unknown = { ...drive, body: { ...drive.body, unknown: 1 } }
    await expect(api.send(unknown)).rejects.toEqual(startFailed(/does not fit.*unknown/, 'PUT /drives/disk0'))
  })
})

describe('an answer that is none', () => {
  const answers: Readonly<Record<string, [(response: ServerResponse) => void, RegExp]>> = {
    'a body where none belongs': [(response) => response.end('{}'), /unexpected 200/],
    'a redirection': [(response) => response.writeHead(302).end(), /unexpected 302/],
    'a refusal that is no JSON': [(response) => response.writeHead(500).end('<html>'), /no answer to it/],
    'a refusal without words': [(response) => response.writeHead(400).end('{}'), /unexpected 400/],
    'more than anybody reads': [
      (response) => response.writeHead(400).end(Buffer.alloc(1024 * 1024, 'x')),
      /broke off during PUT \/actions/,
    ],
    'an end before the end': [
      (response) => {
        response.writeHead(400, { 'content-length': 100 })
        response.write('{')
        setTimeout(() => response.destroy(), 5)
      },
      /broke off during PUT \/actions/,
    ],
  }
  test.each(Object.entries(answers))('%s is an error of the start', async (_name, [answer, message]) => {
    await using server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    server.instead.set('PUT /actions', answer)
    await expect(api.send(startInstance)).rejects.toEqual(startFailed(message, 'PUT /actions'))
  })

  test('a description with other fields is an error of the start', async () => {
    await using server = await TestServer.listen(socket)
    server.instead.set('GET /', (response) => response.end(JSON.stringify({ state: 'Sleeping', vmm_version: '1' })))
    await expect(FirecrackerApi.connect(socket, never)).rejects.toEqual(startFailed(/no answer to it/, 'GET /'))
  })

  test('silence ends with the time of the request', async () => {
    await using server = await TestServer.listen(socket)
    const api = await FirecrackerApi.connect(socket, never)
    server.instead.set('PATCH /vm', () => undefined)
    await expect(api.send({ ...pause, timeoutMs: 30 })).rejects.toEqual(
      startFailed('firecracker did not answer PATCH /vm within 30 ms', 'PATCH /vm'),
    )
  })

  test('silence ends with the patience of the caller', async () => {
    await using server = await TestServer.listen(socket)
    const over = new AbortController()
    const api = await FirecrackerApi.connect(socket, over.signal)
    const reason = new Error('enough')
    server.instead.set('PATCH /vm', () => over.abort(reason))
    await expect(api.send(pause)).rejects.toBe(reason)
  })

  test('what is no HTTP is an error of the start', async () => {
    const server = createServer((connection) => connection.end('SSH-2.0-nothing\r\n\r\n')).listen(socket)
    await expect(FirecrackerApi.connect(socket, never)).rejects.toEqual(startFailed(/broke off during GET/, 'GET /'))
    server.close()
  })
})
