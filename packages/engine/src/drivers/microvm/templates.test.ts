import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Templates } from './templates.ts'

const MINUTE_MS = 60_000

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pyro-templates-'))
})
afterAll(() => rm(folder, { recursive: true }))

test('a template that could not be made is not tried again at each start, but after a while', async () => {
  let nowMs = 0
  const tried: string[] = []
  const logged: unknown[] = []
  const templates = new Templates<string>(
    folder,
    {
      depends: (machine) => Promise.resolve([machine]),
      memoryBytes: () => 0,
      diskBytes: () => [],
      make: (_folder, { machine }) => {
        tried.push(machine)
        return Promise.reject(new Error('no space'))
      },
    },
    { warn: (...what: unknown[]) => void logged.push(what) },
    () => nowMs,
  )
  const said: (string | null)[] = []
  const kernel = { id: 'kernel', image: '', initramfs: '' }
  const start = async (machine: string): Promise<void> => {
    const cx = {
      signal: new AbortController().signal,
      onProgress: ({ detail }: { detail: string | null }) => void said.push(detail),
    }
    const request = { kernel, machine, owner: process.getuid?.() ?? 0 }
    expect(await templates.obtainIfPossible(request, cx)).toBeNull()
  }
  await start('small')
  await start('small')
  expect(tried).toEqual(['small'])
  expect(said.filter((detail) => detail !== null)).toEqual(['no space'])
  expect(logged).toEqual([[expect.objectContaining({ error: 'no space' }), expect.any(String)]])
  await start('large')
  expect(tried).toEqual(['small', 'large'])
  nowMs += MINUTE_MS - 1
  await start('small')
  expect(tried).toHaveLength(2)
  nowMs += 1
  await start('small')
  expect(tried).toEqual(['small', 'large', 'small'])
})
