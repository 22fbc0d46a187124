import { writeFileSync } from 'node:fs'
import { mkdtempDisposable } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { World } from '../support/world.ts'
import { volatileFolder } from '../fault/planted-leaks.ts'

describe('the command', () => {
  test('prints a line for each capability, and ends with 0 when Pyro can be used', async () => {
    await using world = await World.open({ disk: 'btrfs' })
    const { code, stdout } = await world.cli(['doctor'])
    expect(stdout).toMatch(/^PASS {2}isolation: /m)
    expect(stdout).toMatch(/^PASS {2}disk-store: btrfs in /m)
    expect(stdout).not.toMatch(/^FAIL/m)
    expect(stdout).toMatch(/^PASS {2}open-files: /m)
    expect(code).toBe(0)
  })

  test('says the same where whoever starts the engine has no sbin in the PATH', async () => {
    await using world = await World.open({ disk: 'btrfs' })
    const verdicts = async (): Promise<string[]> =>
      (await world.cli(['doctor'])).stdout.match(/^[A-Z]+ {2}[\w-]+/gm) ?? []
    const usual = await verdicts()
    await world.restartEngine({ PATH: '/usr/local/bin:/usr/bin:/bin' })
    expect(await verdicts()).toEqual(usual)
    expect(usual).toContain('PASS  disk-limits')
  })

  test('ends with 3 when it finds leaks, names them in full, and says what it released', async () => {
    await using world = await World.open()
    const path = join(
      volatileFolder(world),
      'a-file-with-a-name-that-is-longer-than-what-fits-into-a-column-of-a-table',
    )
    writeFileSync(path, '')
    const found = await world.cli(['doctor', '--leaks'])
    expect(found.stdout).toContain(`LEAK  folder ${path}: in the runtime folder\n`)
    expect(found.code).toBe(3)
    const fixed = await world.cli(['doctor', '--leaks', '--fix'])
    expect(fixed.stdout).toContain(`GONE  folder ${path}: in the runtime folder\nno leaks\n`)
    expect(fixed.code).toBe(0)
  })

  test('ends with 6 when nothing works here, and names the way out', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'pyro-doctor-'))
    const engine = join(folder.path, 'engine-without-programs.mjs')
    const real = fileURLToPath(import.meta.resolve('@pyro/engine/main'))
    writeFileSync(engine, `process.env.PATH = '/nonexistent'\nawait import(${JSON.stringify(real)})\n`)
    await using world = await World.open({ disk: 'copy', env: { PYRO_ENGINE: engine } })
    const { code, stdout } = await world.cli(['doctor'])
    expect(stdout).toMatch(/^FAIL {2}isolation: no driver works on this host\n {6}fix: apt-get install /m)
    expect(stdout).toMatch(/^MISS {2}driver-runc: the program runc is not installed\n {6}fix: apt-get install runc$/m)
    expect(stdout).toMatch(/^MISS {2}disk-speed: /m)
    expect(stdout).toMatch(/^MISS {2}disk-limits: /m)
    expect(code).toBe(6)
  })
})
