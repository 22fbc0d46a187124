import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, chown, link, lstat, mkdir, open, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { isPyroError } from '@pyro/protocol'
import type { DiskStore, Volume, VolumeId } from '@pyro/engine'
import { afterAll, beforeAll, describe, test } from 'vitest'

const run = promisify(execFile)
const MIB = 1024 * 1024
const ID_BASE = 0x40000000
const LIST_LIMIT_BYTES = 16 * MIB
/** ENOSPC and EDQUOT as libuv numbers them; it has no name for the second. */
const FULL_ERRNOS = [-28, -122]

/** One place that holds a store; opening it again is what a restarted engine does. */
export interface DiskStorePlace extends AsyncDisposable {
  /** Below it lie `volumes`. */
  readonly runtimeDir: string
  open(): Promise<DiskStore>
  /** Lets the volumes helper of the open store die. */
  killHelper(): Promise<void>
  /** Everything a reboot takes: helper, mounts, the runtime folder. */
  reboot(): Promise<void>
  /** Leaves behind what an engine leaves that is killed while it makes this volume. */
  plantUnfinished(id: VolumeId): Promise<void>
  /** Mounts, loop devices and helper processes of this place that exist now. */
  leftovers(): Promise<readonly string[]>
}

export interface DiskStoreSubject {
  readonly name: string
  /** A fresh place of its own. */
  place(): Promise<DiskStorePlace>
  readonly enforcesLimit: boolean
  /** Whether writing to an immutable volume is refused by the kernel; else the reason why not. */
  readonly immutable: true | { readonly exempt: string }
}

const id = (text: string): VolumeId => text as VolumeId
const free = { limitBytes: null, group: null }

/** What every disk store promises. A fact a store is exempt from is asserted to be absent. */
export const diskStoreSuite = (subject: DiskStoreSubject): void => {
  describe(`disk store ${subject.name}`, () => {
    let place: DiskStorePlace
    let store: DiskStore
    beforeAll(async () => {
      place = await subject.place()
      store = await place.open()
    })
    afterAll(async () => {
      await store[Symbol.asyncDispose]()
      assert.deepEqual(await place.leftovers(), [], 'a closed store leaves no mount, loop device or process')
      await place[Symbol.asyncDispose]()
    })

    test('a new volume is an empty writable tree of the mapped root, and only that root passes the way to it', async () => {
      const volume = await store.create(id('env-new'))
      assert.equal(volume.path, join(place.runtimeDir, 'volumes', 'env-new'))
      assert.equal(volume.writable, true)
      assert.deepEqual(await listing(volume.path), [])
      const { uid, gid, mode } = await stat(volume.path)
      assert.deepEqual({ uid, gid, mode: mode & 0o7777 }, { uid: ID_BASE, gid: ID_BASE, mode: 0o755 })
      const way = await stat(join(place.runtimeDir, 'volumes'))
      assert.deepEqual({ uid: way.uid, gid: way.gid, mode: way.mode & 0o7777 }, { uid: 0, gid: ID_BASE, mode: 0o710 })
      assert.equal((await stat(place.runtimeDir)).mode & 0o711, 0o711)
      await store.remove(volume.id)
    })

    test('a sealed volume is found as immutable and keeps its content', async () => {
      const volume = await store.create(id('env-sealed'))
      await writeFile(join(volume.path, 'file'), 'kept')
      const sealed = await store.seal(volume.id)
      assert.equal(sealed.writable, false)
      assert.equal((await store.find(volume.id))?.writable, false)
      assert.equal(await readFile(join(sealed.path, 'file'), 'utf8'), 'kept')
      await assertImmutable(subject, sealed)
      await store.remove(volume.id)
    })

    test('creating a name that a sealed volume has is refused, one that an unsealed has begins anew', async () => {
      const first = await store.create(id('env-again'))
      await writeFile(join(first.path, 'half'), 'made')
      const second = await store.create(id('env-again'))
      assert.deepEqual(await listing(second.path), [])
      await store.seal(second.id)
      await assertCode('path.exists', store.create(id('env-again')))
      await store.remove(second.id)
    })

    test('a clone holds exactly what its origin holds, and neither sees later changes of the other', async () => {
      const origin = await seeded(store, 'env-exact')
      const before = await listing(origin.path)
      assert.ok(before.length > 10)
      const clone = await store.clone(origin.id, id('ws-exact.g1'), { limitBytes: null, group: 'ws-exact' })
      assert.equal(clone.writable, true)
      assert.deepEqual(await listing(clone.path), before)
      await writeFile(join(clone.path, 'plain'), 'changed')
      await run('rm', [join(clone.path, 'folder', 'executable')])
      assert.deepEqual(await listing(origin.path), before)
      assert.notDeepEqual(await listing(clone.path), before)
      await removeAll(store, [clone, origin])
    })

    test('a frozen copy is of one instant and immutable', async () => {
      const origin = await seeded(store, 'env-instant')
      const current = await store.clone(origin.id, id('ws-instant.g1'), { limitBytes: null, group: 'ws-instant' })
      await writeFile(join(current.path, 'work'), 'one')
      await store.flush(current.id)
      const frozen = await store.freeze(current.id, id('ws-instant.s1'), { group: 'ws-instant' })
      const then = await listing(frozen.path)
      await writeFile(join(current.path, 'work'), 'two')
      await writeFile(join(current.path, 'more'), 'later')
      assert.equal(await readFile(join(frozen.path, 'work'), 'utf8'), 'one')
      assert.deepEqual(await listing(frozen.path), then)
      assert.equal(frozen.writable, false)
      await assertImmutable(subject, frozen)
      const back = await store.clone(frozen.id, id('ws-instant.g2'), { limitBytes: null, group: 'ws-instant' })
      assert.deepEqual(await listing(back.path), then)
      await removeAll(store, [back, frozen, current, origin])
    })

    test('every step is safe to repeat: a clone and a freeze that exist stay as they are, removing twice is removing once', async () => {
      const origin = await seeded(store, 'env-repeat')
      const clone = await store.clone(origin.id, id('ws-repeat.g1'), free)
      await writeFile(join(clone.path, 'mark'), 'mine')
      await store.clone(origin.id, id('ws-repeat.g1'), free)
      assert.equal(await readFile(join(clone.path, 'mark'), 'utf8'), 'mine')
      const frozen = await store.freeze(clone.id, id('ws-repeat.s1'), { group: null })
      await writeFile(join(clone.path, 'mark'), 'changed')
      await store.freeze(clone.id, id('ws-repeat.s1'), { group: null })
      assert.equal(await readFile(join(frozen.path, 'mark'), 'utf8'), 'mine')
      await removeAll(store, [clone, frozen, origin, clone, frozen, origin])
      assert.equal(await store.find(clone.id), null)
    })

    test('list names the volumes there are, find those and no others', async () => {
      const before = (await store.list()).map((volume) => volume.id)
      const origin = await seeded(store, 'env-listed')
      const clone = await store.clone(origin.id, id('ws-listed.g1'), free)
      const now = (await store.list()).map((volume) => volume.id).filter((one) => !before.includes(one))
      assert.deepEqual(now.sort(), ['env-listed', 'ws-listed.g1'])
      assert.deepEqual(await store.find(clone.id), clone)
      assert.equal(await store.find(id('ws-listed.g2')), null)
      await removeAll(store, [clone, origin])
      assert.deepEqual(
        (await store.list()).map((volume) => volume.id),
        before,
      )
    })

    test('cloning what is not there fails and leaves nothing', async () => {
      await assert.rejects(store.clone(id('env-nowhere'), id('ws-nowhere.g1'), free))
      assert.equal(await store.find(id('ws-nowhere.g1')), null)
      assert.ok((await store.list()).every((volume) => volume.id !== 'ws-nowhere.g1'))
    })

    test('a limit is a wall of one volume and of nothing else, where the store enforces it', async () => {
      assert.equal(store.enforcesLimit, subject.enforcesLimit)
      const origin = await seeded(store, 'env-limit')
      const limitBytes = 24 * MIB
      const full = await store.clone(origin.id, id('ws-limit.g1'), { limitBytes, group: 'ws-limit' })
      const other = await store.clone(origin.id, id('ws-other.g1'), { limitBytes, group: 'ws-other' })
      assert.equal(await store.isFull(full.id), false)
      const written = await fill(join(full.path, 'big'), 40 * MIB)
      if (!subject.enforcesLimit) {
        assert.equal(written, 40 * MIB)
        assert.equal(await store.isFull(full.id), false)
      } else {
        assert.ok(written <= limitBytes && written > limitBytes - 2 * MIB, `wrote ${written} of ${limitBytes}`)
        assert.equal(await store.isFull(full.id), true)
        assert.equal(await store.isFull(other.id), false)
        const owned = (await store.usage(full.id)).ownedBytes
        assert.ok(owned !== null && owned > limitBytes - 2 * MIB && owned <= limitBytes)
        assert.ok(((await store.groupUsage('ws-limit')) ?? 0) >= owned)
      }
      assert.equal(await fill(join(other.path, 'big'), 8 * MIB), 8 * MIB)
      // A full workspace can still be frozen and started anew: the new volume begins with nothing of its own.
      const frozen = await store.freeze(full.id, id('ws-limit.s1'), { group: 'ws-limit' })
      const next = await store.clone(frozen.id, id('ws-limit.g2'), { limitBytes, group: 'ws-limit' })
      assert.equal(await fill(join(next.path, 'again'), 8 * MIB), 8 * MIB)
      await removeAll(store, [next, frozen, full, other, origin])
    })

    test('fifty clones at one time are fifty clones, and all of them can go at one time', async () => {
      const origin = await seeded(store, 'env-many')
      const ids = Array.from({ length: 50 }, (_, index) => id(`ws-many${index}.g1`))
      const clones = await Promise.all(
        ids.map((to) => store.clone(origin.id, to, { limitBytes: null, group: to.split('.')[0] ?? null })),
      )
      for (const clone of clones) assert.equal(await readFile(join(clone.path, 'plain'), 'utf8'), 'plain text\n')
      await Promise.all(ids.map((one) => store.remove(one)))
      assert.ok((await store.list()).every((volume) => !ids.includes(volume.id)))
      await store.remove(origin.id)
    })

    test('more room than the host has is refused as disk.full', async () => {
      await assertCode('disk.full', store.makeRoom(1024 ** 5))
      await store.makeRoom(MIB)
      assert.ok((await store.space()).freeBytes >= MIB)
    })

    test('a helper that dies is started again', async () => {
      await place.killHelper()
      const volume = await store.create(id('env-after-kill'))
      assert.ok(volume.writable)
      await store.remove(volume.id)
    })

    test('a store opened again after a crash has all volumes and nothing half-made', async () => {
      const origin = await seeded(store, 'env-crash')
      const clone = await store.clone(origin.id, id('ws-crash.g1'), { limitBytes: null, group: 'ws-crash' })
      const before = await listing(clone.path)
      await place.plantUnfinished(id('ws-crash.g2'))
      assert.equal(await store.find(id('ws-crash.g2')), null)
      await place.killHelper()
      store = await place.open()
      assert.equal(await store.find(id('ws-crash.g2')), null)
      assert.deepEqual(await listing(join(place.runtimeDir, 'volumes'), 1), ['env-crash', 'ws-crash.g1'])
      assert.deepEqual(await listing(clone.path), before)
      assert.equal((await store.find(origin.id))?.writable, false)
      const made = await store.clone(origin.id, id('ws-crash.g2'), free)
      await removeAll(store, [made])
    })

    test('a store opened after a reboot is mounted again and has all volumes', async () => {
      const before = await listing(store.path(id('ws-crash.g1')))
      await place.reboot()
      store = await place.open()
      assert.deepEqual(await listing(store.path(id('ws-crash.g1'))), before)
      await removeAll(
        store,
        [id('ws-crash.g1'), id('env-crash')].map((one) => ({ id: one })),
      )
      assert.deepEqual(await store.list(), [])
    })

    test('space of removed volumes comes back', async () => {
      const volume = await store.create(id('env-space'))
      const before = (await store.space()).freeBytes
      await fill(join(volume.path, 'big'), 256 * MIB)
      await run('sync', ['-f', volume.path])
      assert.ok((await store.space()).freeBytes < before - 240 * MIB)
      await store.remove(volume.id)
      await store.reclaimSpace({ timeoutMs: 60_000 })
      const after = (await store.space()).freeBytes
      // Chunks of metadata that were allocated meanwhile stay so.
      assert.ok(after > before - 128 * MIB, `${after} bytes are free, ${before} were`)
    })
  })
}

/** A sealed volume with one of everything a tree can hold. */
const seeded = async (store: DiskStore, name: string): Promise<Volume> => {
  const { path } = await store.create(id(name))
  await writeFile(join(path, 'plain'), 'plain text\n')
  await mkdir(join(path, 'folder', 'empty'), { recursive: true })
  await writeFile(join(path, 'folder', 'executable'), '#!/bin/sh\n')
  await chmod(join(path, 'folder', 'executable'), 0o4755)
  await chown(join(path, 'folder'), ID_BASE + 1000, ID_BASE + 1000)
  await chmod(join(path, 'folder'), 0o1777)
  await symlink('../nowhere', join(path, 'folder', 'link'))
  await link(join(path, 'plain'), join(path, 'folder', 'hard'))
  await writeFile(Buffer.concat([Buffer.from(join(path, 'name-')), Buffer.from([0xff, 0xfe])]), 'not utf-8')
  const sparse = await open(join(path, 'sparse'), 'w')
  await sparse.truncate(8 * MIB)
  await sparse.write('end', 8 * MIB - 3)
  await sparse.close()
  await run('mkfifo', [join(path, 'fifo')])
  await run('setfattr', ['-n', 'user.note', '-v', 'kept', join(path, 'plain')])
  await utimes(join(path, 'plain'), 1_000_000_000, 1_000_000_000)
  await utimes(join(path, 'folder'), 1_100_000_000, 1_100_000_000)
  return store.seal(id(name))
}

/** An independent lister: every name with type, mode, owners, size, links, mtime, target and content, xattrs included. */
const listing = async (path: string, depth?: number): Promise<string[]> => {
  if (depth !== undefined) {
    const { stdout } = await run('find', [
      path,
      '-mindepth',
      '1',
      '-maxdepth',
      `${depth}`,
      '-not',
      '-name',
      '.*',
      '-printf',
      '%P\n',
    ])
    return stdout.split('\n').filter(Boolean).sort()
  }
  const script = `cd "$1" && find . -mindepth 1 -printf '%p %y %m %U %G %n %l %T@\\n' | sort
    find . -type f -exec sha256sum {} + | sort
    find . -type f -exec getfattr -h -d {} + | sort`
  const { stdout } = await run('sh', ['-c', script, 'sh', path], { encoding: 'latin1', maxBuffer: LIST_LIMIT_BYTES })
  return stdout.split('\n').filter(Boolean)
}

/** Bytes that could be written and are really stored. */
const fill = async (path: string, bytes: number): Promise<number> => {
  const file = await open(path, 'w')
  const block = Buffer.alloc(256 * 1024, 'x')
  try {
    let written = 0
    while (written < bytes) {
      try {
        await file.write(block)
        await file.datasync()
      } catch (error) {
        assert.ok(FULL_ERRNOS.includes((error as NodeJS.ErrnoException).errno ?? 0), String(error))
        return written
      }
      written += block.length
    }
    return written
  } finally {
    await file.close()
  }
}

const assertImmutable = async ({ immutable }: DiskStoreSubject, volume: Volume): Promise<void> => {
  const attempt = writeFile(join(volume.path, 'attempt'), '')
  if (immutable === true) {
    await assert.rejects(attempt, { code: 'EROFS' })
    return
  }
  await attempt
  await run('rm', [join(volume.path, 'attempt')])
  assert.equal((await lstat(volume.path)).isDirectory(), true, immutable.exempt)
}

const assertCode = (code: string, promise: Promise<unknown>): Promise<void> =>
  assert.rejects(promise, (error) => isPyroError(error) && error.code === code)

const removeAll = async (store: DiskStore, volumes: readonly { readonly id: VolumeId }[]): Promise<void> => {
  for (const volume of volumes) await store.remove(volume.id)
}
