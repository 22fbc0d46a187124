import { createHash, randomBytes } from 'node:crypto'
import { chmod, chown, copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from '../../process/identity.ts'
import { mountOf } from '../../process/mountinfo.ts'

const PUBLISHED = /^pyro-agent-[0-9a-f]{12}$/

/**
 * Puts the agent binary where it can be executed and the roots of sandboxes can read it: the place it was installed to may be
 * closed to them. The name says which build it is, so sandboxes of an older one keep theirs. Returns the path.
 */
export async function publishAgent(
  installed: string,
  { runtimeDir, idBase }: { readonly runtimeDir: string; readonly idBase: number },
): Promise<string> {
  const { size, mtimeMs } = await statBinary(installed)
  const build = createHash('sha256').update(`${installed} ${size} ${mtimeMs}`).digest('hex').slice(0, 12)
  const name = `pyro-agent-${build}`
  if ((await mountOf(runtimeDir))?.options.includes('noexec') !== true) {
    const folder = join(runtimeDir, 'agent')
    await mkdir(folder, { recursive: true, mode: 0o711 })
    return publish(installed, folder, name)
  }
  // As /run is on Debian with an initramfs. The disks are executable, or nothing in them would be.
  const folder = join(runtimeDir, 'volumes', '.agent')
  await mkdir(folder, { recursive: true, mode: 0o710 })
  await chown(folder, 0, idBase)
  // Unlike the runtime folder this one outlives a boot; a binary that is in use lives on without its name.
  for (const other of await readdir(folder)) {
    if (PUBLISHED.test(other) && other !== name) await rm(join(folder, other), { force: true })
  }
  return publish(installed, folder, name)
}

async function publish(installed: string, folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  if (await exists(path)) return path
  // Drivers publish on their own, at the same time.
  const staged = `${path}.${randomBytes(6).toString('hex')}`
  await copyFile(installed, staged)
  await chmod(staged, 0o755)
  await rename(staged, path)
  return path
}

async function statBinary(path: string): Promise<{ size: number; mtimeMs: number }> {
  try {
    return await stat(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new PyroError('host.missing-tool', `the agent binary ${path} is not there`, {
      hint: 'npm run setup builds it',
      cause: error,
    })
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
