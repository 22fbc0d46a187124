import { mkdir, mkdtemp, readFile, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HostPaths, type HostPath } from './host-paths.ts'
import { writePatchFile } from './patch-file.ts'

let base = ''
let project = ''
let outside = ''

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'pyro-mcp-'))
  project = join(base, 'project')
  outside = join(base, 'outside')
  await mkdir(join(project, '.git', 'hooks'), { recursive: true })
  await mkdir(join(project, 'src', 'deep'), { recursive: true })
  await mkdir(join(project, 'vendor', 'lib', '.git'), { recursive: true })
  await mkdir(outside)
  await writeFile(join(project, 'src', 'main.py'), 'print(1)\n')
  await writeFile(join(outside, 'secret'), 'secret')
  await symlink(outside, join(project, 'out-link'))
  await symlink(join(outside, 'secret'), join(project, 'src', 'file-link'))
  await symlink('src', join(project, 'inner-link'))
})

afterEach(() => rm(base, { recursive: true }))

const refused = async (promise: Promise<AsyncDisposable>): Promise<string> => {
  try {
    await using _ = await promise
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'allowed'
}

/** Where an allowed path really leads, or the code of its refusal. */
const real = async (promise: Promise<HostPath>): Promise<string> => {
  try {
    await using target = await promise
    const folder = await realpath(dirname(target.path))
    expect(join(folder, basename(target.path))).toBe(target.path)
    return target.path
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

describe('host paths', () => {
  it('finds the project at the git top level of the folder it runs in', async () => {
    expect((await HostPaths.open({ cwd: join(project, 'src', 'deep') })).project).toBe(project)
    expect((await HostPaths.open({ cwd: join(project, 'src'), projectPath: 'deep' })).project).toBe(
      join(project, 'src', 'deep'),
    )
  })

  it('reads beneath the project, by relative and absolute path', async () => {
    const host = await HostPaths.open({ projectPath: project })
    for (const path of ['src/main.py', './src/../src/main.py', join(project, 'src/main.py')]) {
      await using target = await host.readable(path)
      expect(target).toMatchObject({
        path: join(project, 'src/main.py'),
        shown: 'src/main.py',
        exists: true,
        isDirectory: false,
      })
      expect(await readFile(target.pinned, 'utf8')).toBe('print(1)\n')
    }
    await using whole = await host.readable('.')
    expect(whole).toMatchObject({ path: project, shown: '.', isDirectory: true })
  })

  it.each([
    '..',
    '../outside/secret',
    '/etc/passwd',
    'src/../../outside',
    'out-link',
    'out-link/secret',
    'src/file-link',
    'inner-link/main.py',
  ])('refuses to read %s', async (path) => {
    const host = await HostPaths.open({ projectPath: project })
    expect(await refused(host.readable(path))).toBe('host-path.not-allowed')
  })

  it.each([
    '..',
    '.',
    '../outside/new',
    '/tmp/new',
    'out-link/new',
    'src/file-link',
    '.git/hooks/pre-commit',
    '.GIT/config',
    'vendor',
    'vendor/lib/.git/x',
  ])('refuses to write %s', async (path) => {
    const host = await HostPaths.open({ projectPath: project })
    expect(await refused(host.writable(path))).toBe('host-path.not-allowed')
  })

  it('refuses relative paths without a project, and everything that is not allowed', async () => {
    const host = await HostPaths.open({ cwd: outside, projectPath: undefined, allowRead: [outside] })
    expect(await refused(host.readable(join(project, 'src')))).toBe('host-path.not-allowed')
    await using secret = await host.readable(join(outside, 'secret'))
    expect(secret.exists).toBe(true)
    expect(await refused(host.writable(join(outside, 'new')))).toBe('host-path.not-allowed')
  })

  it('widens reads and writes apart', async () => {
    const host = await HostPaths.open({ projectPath: project, allowWrite: [outside] })
    await using target = await host.writable(join(outside, 'new'))
    expect(target.exists).toBe(false)
    expect(await refused(host.readable(join(outside, 'secret')))).toBe('host-path.not-allowed')
  })

  it('says what is missing', async () => {
    const host = await HostPaths.open({ projectPath: project })
    expect(await refused(host.readable('src/none'))).toBe('path.not-found')
    expect(await refused(host.writable('none/new'))).toBe('path.not-found')
    expect(await refused(host.writable('src/main.py/new'))).toBe('path.not-a-file')
    expect(await refused(host.readable('a\0b'))).toBe('input.invalid')
  })

  it('never leaves the allowed roots, whatever the path', async () => {
    const host = await HostPaths.open({ projectPath: project })
    const part = fc.constantFrom(
      '..',
      '.',
      'src',
      'deep',
      'out-link',
      'inner-link',
      'secret',
      '',
      '/',
      'main.py',
      'file-link',
      '.git',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 6 }), fc.boolean(), async (parts, write) => {
        const path = parts.join('/')
        const outcome = await real(write ? host.writable(path) : host.readable(path))
        expect(
          outcome === project || outcome.startsWith(`${project}/`) || /^(host-path|path|input)\./.test(outcome),
        ).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('keeps to the folder that was checked when it is swapped for a link', async () => {
    const host = await HostPaths.open({ projectPath: project })
    await using target = await host.writable('src/deep/out.patch')
    await rename(join(project, 'src', 'deep'), join(project, 'src', 'moved'))
    await symlink(outside, join(project, 'src', 'deep'))
    await writePatchFile(target, Buffer.from('diff --git a/x b/x\n'))
    expect(await readFile(join(project, 'src', 'moved', 'out.patch'), 'utf8')).toContain('diff --git')
    await expect(readFile(join(outside, 'out.patch'))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('a patch file', () => {
  it('replaces a patch, never another file', async () => {
    const host = await HostPaths.open({ projectPath: project })
    for (const text of ['diff --git a/1 b/1\n', 'diff --git a/2 b/2\n']) {
      await using target = await host.writable('change.patch')
      await writePatchFile(target, Buffer.from(text))
      expect(await readFile(join(project, 'change.patch'), 'utf8')).toBe(text)
    }
    await using other = await host.writable('src/main.py')
    await expect(writePatchFile(other, Buffer.from('x'))).rejects.toMatchObject({ code: 'path.exists' })
    await using folder = await host.writable('src')
    await expect(writePatchFile(folder, Buffer.from('x'))).rejects.toMatchObject({ code: 'path.not-a-file' })
  })
})
