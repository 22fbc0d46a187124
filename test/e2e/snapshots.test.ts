import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { rejectionOf } from '../support/rejection.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('snapshots', () => {
  onEveryDriver('snapshot.life', async (driver) => {
    await using ws = await createOn(world, driver)
    const { snapshots } = ws
    expect(await snapshots.list()).toMatchObject([{ name: 'baseline', kind: 'baseline', current: true }])
    await ws.exec('echo one > file', { check: true })
    expect(await snapshots.create('one')).toMatchObject({
      name: 'one',
      kind: 'named',
      workspaceId: ws.id,
      replaced: false,
      current: false,
    })
    await ws.exec('echo two > file', { check: true })
    await snapshots.create('a-later-one')
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(['baseline', 'one', 'a-later-one'])
    expect(await snapshots.inspect('one')).toMatchObject({ name: 'one', kind: 'named', current: false })
    expect((await ws.status()).snapshots).toEqual(['baseline', 'one', 'a-later-one'])
    await ws.reset({ snapshot: 'one' })
    expect((await snapshots.list()).map(({ current }) => current)).toEqual([false, true, false])
    // Also the one that the present disk was cloned from.
    expect(await snapshots.delete('one')).toMatchObject({ deleted: 'one' })
    expect((await ws.exec('cat file')).stdout).toBe('one\n')
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(['baseline', 'a-later-one'])
    await ws.reset({ snapshot: 'a-later-one' })
    expect((await ws.exec('cat file')).stdout).toBe('two\n')
    await snapshots.create('one')
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(['baseline', 'a-later-one', 'one'])
  })

  onEveryDriver('snapshot.replace', async (driver) => {
    await using ws = await createOn(world, driver)
    await ws.exec('echo old > file', { check: true })
    await ws.snapshots.create('kept')
    await ws.exec('echo new > file', { check: true })
    await expect(ws.snapshots.create('kept')).rejects.toMatchObject({ code: 'snapshot.exists' })
    expect((await ws.diff({ to: 'kept' })).result.entries).toMatchObject([
      { path: 'file', sizeBytes: 4, status: 'added' },
    ])
    expect(await ws.snapshots.create('kept', { replace: true })).toMatchObject({ replaced: true })
    expect((await ws.diff({ from: 'kept' })).result.clean).toBe(true)
    await ws.reset()
    await ws.reset({ snapshot: 'kept' })
    expect((await ws.exec('cat file')).stdout).toBe('new\n')
    expect((await ws.status()).snapshots).toEqual(['baseline', 'kept'])
  })

  onEveryDriver('snapshot.names', async (driver) => {
    await using ws = await createOn(world, driver)
    const refusal = (name: string): Promise<unknown> => rejectionOf(ws.snapshots.create(name))
    expect(await refusal('baseline')).toMatchObject({ code: 'snapshot.reserved' })
    expect(await refusal('current')).toMatchObject({ code: 'snapshot.reserved' })
    for (const name of ['', '-x', '.x', 'a b', 'a/b', 'ü', 'x'.repeat(65)])
      expect(await refusal(name)).toMatchObject({ code: 'input.invalid' })
    await ws.snapshots.create(`A${'x'.repeat(61)}._`)
    await ws.snapshots.create('green')
    await expect(ws.snapshots.delete('baseline')).rejects.toMatchObject({ code: 'snapshot.reserved' })
    const asks = [
      () => ws.snapshots.delete('gren'),
      () => ws.snapshots.inspect('gren'),
      () => ws.diff({ from: 'gren' }),
    ]
    for (const ask of asks)
      await expect(ask()).rejects.toMatchObject({ code: 'snapshot.not-found', hint: expect.stringContaining('green') })
    expect((await ws.snapshots.list()).length).toBe(3)
  })

  onEveryDriver('snapshot.of-a-stopped-workspace', async (driver) => {
    await using ws = await createOn(world, driver)
    await ws.exec('echo written > file', { check: true })
    await ws.stop()
    await ws.snapshots.create('stopped')
    expect((await ws.status()).phase).toBe('stopped')
    await ws.start()
    await ws.exec('rm file', { check: true })
    await ws.reset({ snapshot: 'stopped' })
    expect((await ws.exec('cat file')).stdout).toBe('written\n')
  })

  onEveryDriver('snapshot.while-writing', async (driver) => {
    await using ws = await createOn(world, driver)
    // Each line is whole when it is there: a snapshot is of one instant.
    const writer = await ws.exec(
      'i=0; while :; do i=$((i+1)); echo "line $i" >> log; mv -f log log.tmp; mv log.tmp log; done',
      { detach: true },
    )
    for (const name of ['one', 'two', 'three']) await ws.snapshots.create(name)
    await writer.kill('KILL')
    for (const name of ['three', 'one']) {
      await ws.reset({ snapshot: name })
      const lines = (await ws.exec('cat log log.tmp 2>/dev/null')).stdout.split('\n').filter((line) => line !== '')
      expect(lines).toEqual(lines.map((_, index) => `line ${index + 1}`))
    }
  })
})
