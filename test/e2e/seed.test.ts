import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { git, makeProject, TemporaryFolder, transferred } from '../support/host-tree.ts'
import { lookAtDisk } from '../support/host-volume.ts'
import { listHost, listingDifference, type Listing } from '../support/lister.ts'
import { World } from '../support/world.ts'

/** Root of a sandbox, as the host sees it. */
const ROOT_INSIDE = '1073741824:1073741824'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** What is in `/workspace`, looked at from the host. */
const arrived = async (ws: Workspace, part = 's0'): Promise<Listing> =>
  transferred(await lookAtDisk(world, ws, part, (root) => listHost(`${root}/workspace`)), ROOT_INSIDE)

describe('a seed', () => {
  onEveryDriver('seed.folder', async (driver) => {
    using folder = new TemporaryFolder()
    makeProject(folder.path)
    await git(folder.path, 'init', '--quiet')
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    const expected = transferred(await listHost(folder.path), ROOT_INSIDE)
    expect(listingDifference(expected, await arrived(ws))).toEqual([])
    const files = [...expected.values()].filter((line) => !line.startsWith('d'))
    expect(ws.info.seed).toMatchObject({
      mode: 'path',
      source: folder.path,
      modified: null,
      untracked: null,
      ignored: null,
    })
    expect(ws.info.seed.files).toBe(files.length)
    expect(
      (await ws.exec('stat -c %u:%g:%a README.md src/run.sh; ./src/run.sh; cat src/soft; ls -A empty')).stdout,
    ).toBe('0:0:644\n0:0:755\nrun\n# Project\nalso-empty\n')
    expect((await ws.diff()).result).toMatchObject({ clean: true, entries: [] })
  })

  onEveryDriver('seed.archive', async (driver) => {
    using folder = new TemporaryFolder()
    const source = folder.at('source')
    mkdirSync(source)
    makeProject(source)
    const expected = transferred(await listHost(source), ROOT_INSIDE)
    const tar = (name: string, ...options: string[]): string => {
      execFileSync('tar', ['-C', source, ...options, '-cf', folder.at(name), '.'])
      return folder.at(name)
    }
    const archives = [
      tar('a.tar'),
      tar('pax.tar', '--format=pax'),
      tar('a.tar.gz', '--gzip'),
      tar('a.tar.zst', '--zstd'),
    ]
    for (const path of archives) {
      await using ws = await createOn(world, driver, { seed: { path } })
      expect(listingDifference(expected, await arrived(ws))).toEqual([])
      expect(ws.info.seed).toMatchObject({ mode: 'path', source: path })
    }
  })

  onEveryDriver('seed.git', async (driver) => {
    using folder = new TemporaryFolder()
    const source = folder.at('source')
    await makeRepository(source, folder.at('module'))
    await using ws = await createOn(world, driver, { seed: { git: source } })
    const files = await git(source, 'ls-files', '--cached', '--others', '--exclude-standard', '--full-name')
    const names = files.split('\n').filter((name) => name !== '' && name !== 'gone' && name !== 'module')
    const present = [...(await arrived(ws))].filter(([, line]) => !line.startsWith('d')).map(([path]) => path)
    expect(present).toEqual([...names, 'module/file', 'module/new'].sort())
    const expected = transferred(await listHost(source, { without: ['.git', 'module/.git'] }), ROOT_INSIDE)
    const got = await arrived(ws)
    expect(listingDifference(new Map([...expected].filter(([path]) => got.has(path))), got)).toEqual([])
    expect(ws.info.seed).toMatchObject({
      mode: 'git',
      source,
      modified: 3,
      untracked: 2,
      ignored: 2,
      files: present.length,
    })
  })
})

/** Tracked, changed, deleted, new and ignored files, and a submodule that has been worked in. */
const makeRepository = async (source: string, module: string): Promise<void> => {
  mkdirSync(module)
  await git(module, 'init', '--quiet')
  writeFileSync(`${module}/file`, 'of the module\n')
  await git(module, 'add', '.')
  await git(module, 'commit', '--quiet', '-m', 'one')
  mkdirSync(`${source}/src`, { recursive: true })
  await git(source, 'init', '--quiet')
  writeFileSync(`${source}/.gitignore`, 'build/\n*.log\n')
  for (const name of ['kept', 'changed', 'gone', 'src/mode', 'src/tracked.log'])
    writeFileSync(`${source}/${name}`, `${name}\n`)
  await git(source, 'submodule', '--quiet', 'add', module, 'module')
  await git(source, 'add', '--force', '.')
  await git(source, 'commit', '--quiet', '-m', 'one')
  writeFileSync(`${source}/changed`, 'changed since\n')
  rmSync(`${source}/gone`)
  writeFileSync(`${source}/new file`, 'new\n')
  writeFileSync(`${source}/module/new`, 'new in the module\n')
  mkdirSync(`${source}/build`)
  writeFileSync(`${source}/build/out`, 'built\n')
  writeFileSync(`${source}/trace.log`, 'log\n')
  renameSync(`${source}/src/mode`, `${source}/src/moved`)
  renameSync(`${source}/src/moved`, `${source}/src/mode`)
}
