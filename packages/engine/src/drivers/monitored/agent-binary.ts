import { createHash, randomBytes } from 'node:crypto'
import { chmod, copyFile, mkdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from '../../process/identity.ts'

/**
 * Puts the agent binary where the roots of sandboxes can read it: the place it was installed to may be closed to them. The name
 * says which build it is, so sandboxes of an older one keep theirs. Returns the path.
 */
export async function publishAgent(installed: string, runtimeDir: string): Promise<string> {
  const { size, mtimeMs } = await statBinary(installed)
  const build = createHash('sha256').update(`${installed} ${size} ${mtimeMs}`).digest('hex').slice(0, 12)
  const folder = join(runtimeDir, 'agent')
  const path = join(folder, `pyro-agent-${build}`)
  if (await exists(path)) return path
  await mkdir(folder, { recursive: true, mode: 0o711 })
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
