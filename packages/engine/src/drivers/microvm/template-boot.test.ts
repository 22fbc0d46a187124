import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bootTemplate } from './template-boot.ts'

test('a template whose program is not there is one that was not made, whatever the boot still waits for', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pyro-boot-'))
  const booting = bootTemplate({
    agentPath: join(folder, 'none'),
    folder,
    vmmName: 'the VMM',
    vmm: { argv: ['/none'], id: 1, groups: [], files: [], listen: '', mounts: [] },
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    begin: (signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    save: () => expect.unreachable(),
  })
  await expect(booting).rejects.toMatchObject({
    code: 'workspace.start-failed',
    message: expect.stringMatching(/was not made: the VMM ended: .*none is not installed/),
  })
  await rm(folder, { recursive: true })
})
