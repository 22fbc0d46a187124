import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EXIT } from '@pyro/protocol'
import { expect, test } from 'vitest'
import { ENVIRONMENT, World } from '../support/world.ts'
import { inventory } from './inventory.ts'

const ENGINE = fileURLToPath(new URL('../../packages/engine/bin/pyro-engine.js', import.meta.url))

/** An engine that sees a host on which this program was never installed. */
const engineWithout = (program: string, folder: string): string => {
  const path = join(folder, 'engine')
  const script = `mount -t tmpfs tmpfs ${folder} && mkdir ${folder}/upper ${folder}/work &&
mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=${folder}/upper,workdir=${folder}/work /usr/bin &&
rm /usr/bin/${program} && exec ${process.execPath} ${ENGINE}`
  writeFileSync(path, `#!/bin/sh\nexec unshare --mount --propagation private sh -c '${script}'\n`)
  chmodSync(path, 0o755)
  return path
}

test('a pull finds out that the tool that builds is missing, names it, and leaves nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pyro-hidden-'))
  try {
    const env = { PYRO_ENVIRONMENT_CACHE: '', PYRO_ENGINE: engineWithout('mmdebstrap', folder) }
    await using world = await World.open({ env })
    const { code, stderr } = await world.cli(['env', 'pull', ENVIRONMENT])
    expect(code).toBe(EXIT.unsupported)
    expect(stderr).toMatch(/mmdebstrap is not installed.*\(host\.missing-tool\)/)
    expect(stderr).toContain('hint: apt-get install mmdebstrap debian-archive-keyring')
    expect(inventory(world)).toEqual([])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
