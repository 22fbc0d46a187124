import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import type { DiffOptions } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { applyPatch, comparable, copyTree, notInPatch, unexplained } from '../support/git-patch.ts'
import { binary, git, makeProject, TemporaryFolder } from '../support/host-tree.ts'
import { firstId, lookAtDisk } from '../support/host-volume.ts'
import { listHost } from '../support/lister.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Changes of every kind to what `makeProject` makes. */
const CHANGES = String.raw`
set -e
echo changed >> README.md
printf 'still none' >> no-newline; printf '\n' >> src/secret; printf 'now with text' > empty-file
printf 'one\r\ntwo\r\n' > crlf; printf 'no newline' > new-no-newline; : > new-empty
seq 2000 > numbers; chmod 755 numbers; chmod 644 src/run.sh
printf '\000\001' | dd of=src/deep/er/binary bs=1 seek=1000 conv=notrunc 2>/dev/null
head -c 300000 /dev/urandom > new-binary; rm src/deep/512; rm src/deep/513; mkdir src/deep/513; echo x > src/deep/513/inner
printf 'x' >> 'sp ace/two  spaces "quoted" '"'too'"; echo x > ' leading and trailing '; echo x > 'a "quote"'; echo x > 'b\slash'; echo x > '-dash'
printf 'more\n' >> 'übung – ☃'; echo x > 'ñandú'; printf 'more\n' >> "$(printf 'latin-\344\377')"; echo x > "$(printf 'raw-\200\376')"
printf 'more\n' >> "$(printf 'new\nline\tand\\backslash')"; echo x > "$(printf 'tab\there')"
rm dangling; ln -s elsewhere dangling; rm src/soft; echo 'now a file' > src/soft; rm folder-link; mkdir folder-link; echo x > folder-link/x
ln -s README.md new-link; ln -s /etc/passwd absolute-link; ln -s ../../.. leaving-link; ln -s "$(printf 'target \377 "q"')" odd-link; rm src/hard; ln -s hard src/hard
mv src/read-only src/moved-away; rm -rf x*
rmdir empty/also-empty; echo x > empty/also-empty; mkdir 'ends with space '; : > 'ends with space /empty'; mkdir -p made/deep/folders; echo x > made/deep/folders/file; printf '%0.sa' $(seq 100000) > long-line; echo >> long-line
`

/** What no patch carries. */
const BEYOND = String.raw`
set -e
mkdir empty-folder; chmod 600 src/deep/65536; chown daemon:mail src/deep/65531; echo x > owned; chown 7:7 owned; mkdir owned-folder; chown 7:7 owned-folder; echo x > owned-folder/x
chmod 4755 new-binary; chmod 711 sp\ ace; head -c 9000000 /dev/urandom > over-8-mib
mkdir -p nested/.git/hooks; echo x > nested/.git/config; echo x > nested/tracked
`

const BEYOND_PATHS = [
  'empty-folder',
  'nested/.git',
  'nested/.git/config',
  'nested/.git/hooks',
  'new-binary',
  'over-8-mib',
  'owned',
  'owned-folder',
  'sp ace',
  'src/deep/65531',
  'src/deep/65536',
  'src/moved-away',
  'src/secret',
]

describe('the patch of a diff', () => {
  onEveryDriver('diff.patch-applies', async (driver) => {
    using folder = new TemporaryFolder()
    const seed = folder.at('seed')
    mkdirSync(seed)
    makeProject(seed)
    await using ws = await createOn(world, driver, { seed: { path: seed } })
    await ws.exec(CHANGES, { check: true })
    await ws.exec(BEYOND, { check: true })
    const diff = await ws.diff({ ignored: true })
    await ws.snapshots.create('after')
    const copy = folder.at('copy')
    copyTree(seed, copy)
    expect(applyPatch(copy, diff.patch)).toEqual({ code: 0, stderr: '' })
    const wanted = comparable(
      await lookAtDisk(world, ws, 's1', (root) => listHost(`${root}/workspace`)),
      firstId(driver),
    )
    expect(unexplained(wanted, comparable(await listHost(copy)), notInPatch(diff))).toEqual([])
    expect(diff.result).toMatchObject({ clean: false, patchTruncated: false, patchBytes: diff.patch.byteLength })
    expect([...notInPatch(diff)].sort()).toEqual(BEYOND_PATHS)
  })

  onEveryDriver('diff.patch-merges', async (driver) => {
    using folder = new TemporaryFolder()
    const repository = folder.at('repository')
    mkdirSync(repository)
    const lines = Array.from({ length: 60 }, (_, index) => `line ${index}\n`)
    writeFileSync(`${repository}/both`, lines.join(''))
    writeFileSync(`${repository}/binary`, binary(5000))
    writeFileSync(`${repository}/moved`, 'moved\n')
    writeFileSync(`${repository}/clash`, 'base\n')
    await git(repository, 'init', '--quiet')
    await git(repository, 'add', '.')
    await git(repository, 'commit', '--quiet', '-m', 'seed')
    await using ws = await createOn(world, driver, { seed: { git: repository } })
    await ws.exec("sed -i 's/line 5$/from inside/' both; printf x >> binary; echo new > new; rm moved; chmod +x both", {
      check: true,
    })
    writeFileSync(`${repository}/both`, lines.with(50, 'from the host\n').join(''))
    await git(repository, 'commit', '--quiet', '-am', 'moved on')

    expect(applyPatch(repository, (await ws.diff()).patch, '--3way')).toMatchObject({ code: 0 })
    expect(readFileSync(`${repository}/both`, 'utf8')).toBe(
      lines.with(5, 'from inside\n').with(50, 'from the host\n').join(''),
    )
    expect(readFileSync(`${repository}/binary`)).toEqual(Buffer.concat([binary(5000), Buffer.from('x')]))
    expect(await git(repository, 'status', '--porcelain')).toBe('M  binary\nM  both\nD  moved\nA  new\n')
    await git(repository, 'commit', '--quiet', '-m', 'merged')

    // Where both changed the same, git says so, which it only can with the blob of the seed.
    await ws.exec('echo inside > clash', { check: true })
    writeFileSync(`${repository}/clash`, 'host\n')
    await git(repository, 'commit', '--quiet', '-am', 'clash')
    const clash = applyPatch(repository, (await ws.diff({ paths: ['clash'] })).patch, '--3way')
    expect(clash.code).toBe(1)
    expect(readFileSync(`${repository}/clash`, 'utf8')).toBe('<<<<<<< ours\nhost\n=======\ninside\n>>>>>>> theirs\n')
  })

  onEveryDriver('diff.line-ends', async (driver) => {
    using folder = new TemporaryFolder()
    const repository = folder.at('repository')
    mkdirSync(`${repository}/sub`, { recursive: true })
    const write = (files: Readonly<Record<string, string>>): void => {
      for (const [name, content] of Object.entries(files)) writeFileSync(`${repository}/${name}`, content, 'latin1')
    }
    const lines = Array.from({ length: 60 }, (_, index) => `line ${index}\r\n`)
    write({
      '.gitattributes': '*.bat text eol=crlf\n*.any text=auto eol=crlf\n',
      'sub/.gitattributes': 'kept.bat -text\n*.ps1 eol=crlf\n',
      'both.bat': lines.join(''),
      'sub/moved.ps1': '1\r\n',
      'sub/end.ps1': '1\r\n2',
      'sub/kept.bat': '1\r\n2\r\n',
      'binary.any': '\x00\r\n\n1',
      'mixed.bat': '1\r\n2\n3\r\n',
      'to-lf.bat': '1\r\n',
      'to-crlf.bat': '1\n',
      'mode.bat': '1\r\n',
    })
    symlinkSync('one\r\ntwo', `${repository}/link.bat`)
    await git(repository, 'init', '--quiet')
    await git(repository, 'add', '.')
    await git(repository, 'commit', '--quiet', '-m', 'seed')
    await using ws = await createOn(world, driver, { seed: { git: repository } })
    await ws.exec(
      String.raw`
set -e
sed -i 's/line 5\r$/from inside\r/' both.bat; rm sub/moved.ps1; printf 'one\r\n2' > sub/end.ps1; printf '1\r\ntwo\r\n' > sub/kept.bat
printf '\000\r\n\n2' > binary.any; printf '1\r\n2\r\nthree\r\n' > mixed.bat; printf '1\n' > to-lf.bat; printf '1\r\n' > to-crlf.bat
chmod +x mode.bat; ln -sfn "$(printf 'two\r\none')" link.bat
printf 'new\r\n' > new.bat; printf 'new\n' > new-lf.bat; printf '1\r\n2\n' > new-mixed.bat; printf '\000\n' > new.any
`,
      { check: true },
    )
    const diff = await ws.diff()
    expect([...notInPatch(diff)].sort()).toEqual(['new-lf.bat', 'new-mixed.bat', 'to-crlf.bat', 'to-lf.bat'])
    expect(diff.result.totals).toMatchObject({ notInPatch: 4 })
    await ws.snapshots.create('after')
    const wanted = comparable(
      await lookAtDisk(world, ws, 's1', (root) => listHost(`${root}/workspace`)),
      firstId(driver),
    )

    // As the seed was: the same tree, from the files alone.
    const copy = folder.at('copy')
    copyTree(repository, copy)
    expect(applyPatch(copy, diff.patch)).toEqual({ code: 0, stderr: '' })
    rmSync(`${copy}/.git`, { recursive: true })
    expect(unexplained(wanted, comparable(await listHost(copy)), notInPatch(diff))).toEqual([])

    // Moved on: what the host did stays, and every line ends as the attributes say.
    write({ 'both.bat': lines.with(50, 'from the host\r\n').join('') })
    await git(repository, 'commit', '--quiet', '-am', 'moved on')
    expect(applyPatch(repository, diff.patch, '--3way')).toMatchObject({ code: 0 })
    expect(readFileSync(`${repository}/both.bat`, 'utf8')).toBe(
      lines.with(5, 'from inside\r\n').with(50, 'from the host\r\n').join(''),
    )
    expect(readFileSync(`${repository}/new-mixed.bat`, 'utf8')).toBe('1\r\n2\r\n')
    expect(await git(repository, 'status', '--porcelain', '--no-renames')).toBe(
      `M  binary.any\nM  both.bat\nM  link.bat\nM  mixed.bat\nM  mode.bat\nA  new-lf.bat\nA  new-mixed.bat\nA  new.any\nA  new.bat\nM  sub/end.ps1\nM  sub/kept.bat\nD  sub/moved.ps1\n`,
    )

    // The same files outside of a repository, where git reads no attributes: the bytes as they are.
    const plain = folder.at('plain')
    copyTree(copy, plain)
    await using other = await createOn(world, driver, { seed: { path: plain } })
    await other.exec(
      String.raw`sed -i 's/line 5\r$/once more\r/;s/from inside/again/' both.bat; printf 'new\n' > newer-lf.bat`,
      { check: true },
    )
    const bytes = await other.diff()
    expect([...notInPatch(bytes)]).toEqual([])
    expect(applyPatch(plain, bytes.patch)).toEqual({ code: 0, stderr: '' })
    expect(readFileSync(`${plain}/both.bat`, 'utf8')).toBe(lines.with(5, 'again\r\n').join(''))
    expect(readFileSync(`${plain}/newer-lf.bat`, 'utf8')).toBe('new\n')

    // Attributes that change inside count for nobody yet; what git writes while they change is not certain.
    await ws.reset()
    await ws.exec(
      String.raw`
set -e
printf '*.txt eol=crlf\n' >> .gitattributes; printf '1\r\n' > new.txt; printf '1\r\ntwo\r\n' > sub/kept.bat; printf '1\r\n2\r\n3' > mixed.bat
`,
      { check: true },
    )
    const changed = await ws.diff()
    expect(Buffer.from(changed.patch).toString()).toContain('+++ b/new.txt\n@@ -0,0 +1 @@\n+1\r\n')
    expect([...notInPatch(changed)]).toEqual(['mixed.bat'])
    await git(repository, 'reset', '--quiet', '--hard', 'HEAD~1')
    expect(applyPatch(repository, changed.patch, '--3way')).toMatchObject({ code: 0 })
    expect(await git(repository, 'show', ':mixed.bat')).toBe('1\n2\n3')
  })

  onEveryDriver('diff.git-folders', async (driver) => {
    using folder = new TemporaryFolder()
    await git(folder.path, 'init', '--quiet')
    writeFileSync(folder.at('file'), 'x\n')
    await git(folder.path, 'add', '.')
    await git(folder.path, 'commit', '--quiet', '-m', 'one')
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    await ws.exec(
      'echo changed > file; echo "#!/bin/sh" > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout; echo "[core]" >> .git/config; mkdir -p sub/.git; echo x > sub/.git/HEAD; echo x > sub/file; rm .git/HEAD',
      { check: true },
    )
    const diff = await ws.diff()
    const below = diff.result.entries.filter(({ path }) => path.split('/').includes('.git'))
    expect(below.map(({ path, status, inPatch }) => [path, status, inPatch])).toEqual([
      ['.git/HEAD', 'deleted', false],
      ['.git/config', 'modified', false],
      ['.git/hooks/post-checkout', 'added', false],
      ['sub/.git', 'added', false],
      ['sub/.git/HEAD', 'added', false],
    ])
    expect(diff.result.gitSensitive).toEqual(['.git/config', '.git/hooks/post-checkout'])
    expect(diff.result.totals).toMatchObject({ notInPatch: below.length })
    expect(Buffer.from(diff.patch).toString()).not.toMatch(/^(diff|---|\+\+\+) .*\.git/m)
    const copy = folder.at('../', `${ws.id}-copy`)
    using _copy = { [Symbol.dispose]: () => rmSync(copy, { recursive: true, force: true }) }
    copyTree(folder.path, copy)
    expect(applyPatch(copy, diff.patch)).toEqual({ code: 0, stderr: '' })
    expect(readFileSync(`${copy}/sub/file`, 'utf8')).toBe('x\n')
  })

  onEveryDriver('diff.ignored', async (driver) => {
    using folder = new TemporaryFolder()
    writeFileSync(folder.at('.gitignore'), 'build/\n*.log\n!kept.log\n/only-here\n')
    mkdirSync(folder.at('sub'))
    writeFileSync(folder.at('sub/.gitignore'), '*.tmp\n')
    writeFileSync(folder.at('old.log'), 'old\n')
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    await ws.exec(
      'mkdir build; echo x > build/out; echo x > trace.log; echo x > kept.log; echo x > sub/a.tmp; echo x > a.tmp; echo x > only-here; echo x > sub/only-here; echo x >> old.log',
      { check: true },
    )
    // Rules that came later change nothing.
    await ws.exec("echo 'a.tmp' >> .gitignore; echo '*' > sub/.gitignore", { check: true })
    const shown = await ws.diff()
    expect(shown.result.entries.map(({ path }) => path)).toEqual([
      '.gitignore',
      'a.tmp',
      'kept.log',
      'sub/.gitignore',
      'sub/only-here',
    ])
    const listed = await ws.diff({ ignored: true })
    const ignored = listed.result.entries.filter(({ ignored }) => ignored).map(({ path }) => path)
    expect(ignored.filter((path) => path !== 'build')).toEqual([
      'build/out',
      'old.log',
      'only-here',
      'sub/a.tmp',
      'trace.log',
    ])
    expect(shown.result.totals.ignored).toBe(ignored.length)
    expect(Buffer.from(listed.patch).toString()).toContain('+++ b/build/out')
    expect(Buffer.from(shown.patch).toString()).not.toContain('build/out')
    await ws.reset()
    await ws.exec('mkdir -p logs/old; echo x > logs/old/trace.log', { check: true })
    // Only something ignored, and folders for it: nothing is listed, but it is not clean.
    expect((await ws.diff()).result).toMatchObject({ clean: false, entries: [], patchBytes: 0, totals: { ignored: 1 } })
  })

  onEveryDriver('diff.any-states', async (driver) => {
    await using ws = await createOn(world, driver)
    const names = async (options: DiffOptions): Promise<string[]> =>
      (await ws.diff(options)).result.entries.map(({ path, status }) => `${status} ${path}`)
    await ws.exec('mkdir d; echo one > d/one; echo x > /etc/outside', { check: true })
    await ws.snapshots.create('one')
    await ws.exec('echo two > d/two; rm d/one', { check: true })
    await ws.snapshots.create('two')
    await ws.exec('echo three > three', { check: true })
    expect(await names({})).toEqual(['added d/two', 'added three'])
    expect(await names({ from: 'one' })).toEqual(['deleted d/one', 'added d/two', 'added three'])
    expect(await names({ from: 'one', to: 'two' })).toEqual(['deleted d/one', 'added d/two'])
    expect(await names({ from: 'two', to: 'one' })).toEqual(['added d/one', 'deleted d/two'])
    expect(await names({ from: 'current', to: 'baseline' })).toEqual(['deleted d/two', 'deleted three'])
    expect(await names({ root: '/etc' })).toEqual(['added outside'])
    expect(await names({ root: '/workspace/d' })).toEqual(['added .', 'added two'])
    expect(await names({ root: '/', paths: ['etc', 'workspace/d'] })).toEqual([
      'added etc/outside',
      'added workspace/d/two',
    ])
    expect(await names({ root: '/', paths: ['usr'] })).toEqual([])
    expect((await ws.diff({ from: 'two', to: 'two' })).result).toMatchObject({ clean: true, from: 'two', to: 'two' })
    await ws.stop()
    expect(await names({})).toEqual(['added d/two', 'added three'])
    expect((await ws.status()).phase).toBe('stopped')
    await ws.reset({ snapshot: 'one' })
    const after = await ws.diff()
    expect(after.result.entries.map(({ path }) => path)).toEqual(['d/one'])
    expect(after.result.note).toContain('one')
    await expect(ws.diff({ from: 'nothing' })).rejects.toMatchObject({ code: 'snapshot.not-found' })
    await expect(ws.diff({ root: '/no/such/folder' })).rejects.toMatchObject({ code: 'path.not-found' })
  })

  onEveryDriver('diff.entries', async (driver) => {
    using folder = new TemporaryFolder()
    for (const name of ['changed', 'mode', 'gone', 'to-link', 'only-touched'])
      writeFileSync(folder.at(name), 'one\ntwo\n')
    symlinkSync('changed', folder.at('link'))
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    const changes = String.raw`printf 'one\n2\n3\n' > changed; chmod 755 mode; rm gone; rm to-link; ln -s changed to-link; ln -sf mode link; printf '\0' > "$(printf 'raw\377')"; ln -s "$(printf 'to\377')" raw-link; mkdir empty; touch new; touch -d @0 only-touched`
    await ws.exec(changes, { check: true })
    const { result } = await ws.diff()
    const file = {
      type: 'file',
      mode: '100644',
      uid: 0,
      gid: 0,
      linkTarget: null,
      binary: false,
      ignored: false,
      inPatch: true,
    } as const
    const added = { ...file, status: 'added', oldType: null, oldMode: null } as const
    const modified = { ...file, status: 'modified', oldType: 'file', oldMode: '100644' } as const
    const link = { type: 'symlink', mode: '120777' } as const
    expect(result.entries).toEqual([
      { ...modified, path: 'changed', sizeBytes: 8, additions: 2, deletions: 1 },
      {
        ...added,
        path: 'empty',
        type: 'directory',
        mode: '040755',
        sizeBytes: null,
        additions: null,
        deletions: null,
        inPatch: false,
      },
      {
        ...modified,
        path: 'gone',
        status: 'deleted',
        mode: null,
        uid: null,
        gid: null,
        sizeBytes: null,
        additions: 0,
        deletions: 2,
      },
      {
        ...modified,
        ...link,
        path: 'link',
        oldType: 'symlink',
        oldMode: '120777',
        linkTarget: 'mode',
        sizeBytes: 4,
        additions: 1,
        deletions: 1,
      },
      { ...modified, path: 'mode', mode: '100755', sizeBytes: 8, additions: null, deletions: null },
      { ...added, path: 'new', sizeBytes: 0, additions: 0, deletions: 0 },
      {
        ...added,
        ...link,
        path: 'raw-link',
        linkTarget: 'to\uFFFD',
        linkTargetBase64: 'dG//',
        sizeBytes: 3,
        additions: 1,
        deletions: 0,
      },
      {
        ...added,
        path: 'raw\uFFFD',
        pathBase64: 'cmF3/w==',
        binary: true,
        sizeBytes: 1,
        additions: null,
        deletions: null,
      },
      {
        ...modified,
        ...link,
        path: 'to-link',
        status: 'typeChanged',
        linkTarget: 'changed',
        sizeBytes: 7,
        additions: 1,
        deletions: 2,
      },
    ])
    expect(result.totals).toEqual({
      added: 4,
      modified: 3,
      deleted: 1,
      typeChanged: 1,
      ignored: 0,
      notInPatch: 1,
      additions: 5,
      deletions: 6,
    })
  })

  onEveryDriver('diff.command-line', async (driver) => {
    using folder = new TemporaryFolder()
    writeFileSync(folder.at('changed'), 'one\n')
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    const diff = (...args: string[]) => world.cli(['workspace', 'diff', ws.name, ...args])
    expect(await diff('--exit-code')).toMatchObject({ code: 0, stdout: '' })
    await ws.exec(String.raw`echo two > changed; echo x > "$(printf 'raw\377')"; mkdir empty`, { check: true })
    const patch = (await ws.diff()).patch
    const printed = await diff('--exit-code')
    expect(printed.code).toBe(1)
    expect(Buffer.from(printed.stdout, 'latin1').equals(patch)).toBe(true)
    expect(printed.stderr).toContain('not wholly in the patch (git cannot carry the rest): empty')
    expect((await diff('--name-only')).stdout).toBe('M\tchanged\nA\tempty\nA\traw\xef\xbf\xbd\n')
    expect((await diff('--stat')).stdout).toContain(' changed | 2 +-')
    expect(await diff('--output', folder.at('a.patch'))).toMatchObject({ code: 0, stdout: '' })
    expect(readFileSync(folder.at('a.patch')).equals(patch)).toBe(true)
    expect(applyPatch(folder.path, readFileSync(folder.at('a.patch')))).toEqual({ code: 0, stderr: '' })
    expect(readFileSync(folder.at('changed'), 'utf8')).toBe('two\n')
    expect(JSON.parse((await diff('--json', '--path', 'changed')).stdout)).toMatchObject({
      totals: { modified: 1, added: 0 },
      patch: expect.stringContaining('+two'),
    })
  })
})
