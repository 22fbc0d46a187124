import { mkdirSync, renameSync } from 'node:fs'
import type { TestedDriver } from '@pyro/driver-testkit'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildDeb, PACKAGE } from '../support/deb.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { availableDrivers, onEveryDriver } from '../support/every-driver.ts'
import { makeProject, TemporaryFolder } from '../support/host-tree.ts'
import { lookAtDisk } from '../support/host-volume.ts'
import { listHost, listInside, listingDifference } from '../support/lister.ts'
import { World } from '../support/world.ts'

const CASE_MS = 300_000

/** One of everything that a filesystem can hold, on several places of the disk. */
const MUTATION = String.raw`
set -e
cd /workspace
mkdir -p modes owners links times empty/deep/er 'sp ace' holes
i=0; for mode in 0 400 640 755 4755 2755 6711 1777; do touch modes/$mode; chmod $mode modes/$mode; mkdir modes/d$mode; chmod $mode modes/d$mode; done
touch owners/a owners/b; mkdir owners/d; chown daemon:mail owners/a; chown 12345:54321 owners/b owners/d; ln -s gone owners/link; chown -h 12345:1 owners/link
echo content > links/one; ln links/one links/two; ln links/one /etc/third; ln -s one links/soft; ln -s /etc/passwd links/absolute; ln -s gone links/dangling; ln -s . links/loop
touch -d '1985-10-26 01:21:00.123456789' times/old; touch -d '2038-01-19 04:14:08.5' times/late; ln -s x times/link; touch -h -d '2001-01-01' times/link
printf x > "$(printf 'latin-\344\377')"; printf x > "$(printf 'new\nline\ttab')"; printf x > 'übung ☃'; printf x > 'sp ace/ two  '; printf x > '-rf'; printf x > 'back\slash'
truncate -s 50M holes/all; printf start > holes/some; truncate -s 20M holes/some; printf end >> holes/some
mkdir -p /opt/tool /tmp/work; echo tool > /opt/tool/bin; echo temporary > /tmp/work/file; chmod 700 /tmp/work
echo setting >> /etc/environment; rm /usr/bin/shred; mv /usr/bin/nl /usr/local/bin/; echo replaced > /usr/bin/env
rm -rf src/deep; mv README.md renamed.md; echo more >> renamed.md; truncate -s 3 no-newline
dpkg -i /root/packages/pyro-demo.deb > /dev/null
echo changed > /etc/pyro-demo.conf
touch -d '1999-09-09 09:09:09' links modes
`

/** Leaves nothing of it as it was. */
const RUIN = String.raw`
cd /workspace
chmod -R 777 modes; chown -R root:root owners; rm links/two; echo other > links/one; ln -sfn elsewhere links/absolute; rm -rf empty 'sp ace'
find . -exec touch -h {} +
head -c 1000000 /dev/zero | tr '\0' x > holes/all; printf x | dd of=holes/some bs=1 seek=4096 conv=notrunc 2>/dev/null
mv 'übung ☃' gone; rm -f -- -rf back* latin*; mkdir new; echo new > new/file
rm -rf /opt/tool /tmp/work /etc/third; mkdir /tmp/other; echo x > /etc/new
dpkg -r pyro-demo > /dev/null 2>&1; dpkg --purge pyro-demo > /dev/null 2>&1
mv renamed.md README.md; rm -rf src; echo file > src; rm -f /usr/bin/ls /bin/cp /usr/bin/env
`

/** What is looked at from inside: all that was touched. gVisor takes its time for the rest, which the host looks at. */
const TOUCHED = ['/workspace', '/etc', '/opt', '/tmp', '/root', '/usr/local', '/var/lib/dpkg/info', '/usr/bin'] as const

/** Times that nobody set, numbers of links and sizes of folders are those of a cache on gVisor; the host's look has them. */
const lookInside = async (ws: Workspace): Promise<ReadonlyMap<string, string>> => {
  const all = new Map<string, string>()
  for (const folder of TOUCHED) {
    for (const [path, line] of await listInside(ws, folder)) {
      const isSet = folder === '/workspace' && path.startsWith('times/')
      const lasting = line.replace(/^(d .*) size=\d+/, '$1').replace(/ links=\d+/, '')
      all.set(`${folder}/${path}`, isSet ? lasting : lasting.replace(/ mtime=[\d.]+/, ''))
    }
  }
  return all
}

const seeded = async (world: World, driver: TestedDriver, folder: TemporaryFolder): Promise<Workspace> => {
  const packages = folder.at('packages')
  mkdirSync(packages)
  renameSync(buildDeb(folder.path), `${packages}/${PACKAGE.name}.deb`)
  const project = folder.at('project')
  mkdirSync(project)
  makeProject(project)
  const ws = await createOn(world, driver, { seed: { path: project } })
  await ws.push(packages, { dest: '/root/packages' })
  return ws
}

const restoresExactly = async (world: World, driver: TestedDriver): Promise<void> => {
  using folder = new TemporaryFolder()
  await using ws = await seeded(world, driver, folder)
  await ws.exec(MUTATION, { check: true })
  const inside = await lookInside(ws)
  await ws.snapshots.create('exact')
  const frozen = await lookAtDisk(world, ws, 's1', listHost)
  await ws.exec(RUIN)
  expect(listingDifference(frozen, await lookAtDisk(world, ws, 's1', listHost))).toEqual([])
  expect((await lookAtDisk(world, ws, 'g1', listHost)).size).not.toBe(frozen.size)

  await ws.reset({ snapshot: 'exact' })

  expect(listingDifference(frozen, await lookAtDisk(world, ws, 'g2', listHost))).toEqual([])
  expect(listingDifference(inside, await lookInside(ws))).toEqual([])
  expect((await ws.diff({ from: 'exact', root: '/' })).result).toMatchObject({ clean: true, entries: [] })
  const installed = await ws.exec(`dpkg-query -W -f '\${Version} \${Status}' ${PACKAGE.name}; echo; ${PACKAGE.program}`)
  expect(installed.stdout).toBe('1.2-3 install ok installed\nchanged\nconfigured\n')
}

describe('exactly as it was', () => {
  let world: World
  beforeAll(async () => {
    world = await World.open()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  onEveryDriver('reset.snapshot-exact', (driver) => restoresExactly(world, driver), { timeoutMs: CASE_MS })

  onEveryDriver('reset.snapshot-exact-times', async (driver) => {
    await using ws = await createOn(world, driver)
    await ws.exec('mkdir -p a/b; echo one > a/file; ln -s file a/b/link; echo two >> a/file; rm -f a/gone', {
      check: true,
    })
    const inside = await listInside(ws, '/workspace')
    await ws.snapshots.create('exact')
    await ws.exec('touch a a/b a/file; touch -h a/b/link; touch new', { check: true })
    await ws.reset({ snapshot: 'exact' })
    expect(listingDifference(inside, await listInside(ws, '/workspace'))).toEqual([])
  })

  onEveryDriver('reset.snapshot-exact-attributes', async (driver) => {
    await using ws = await createOn(world, driver)
    await ws.exec(['perl', '-e', setAttributes], { check: true })
    await ws.snapshots.create('exact')
    const frozen = await lookAtDisk(world, ws, 's1', (root) => listHost(`${root}/workspace`))
    expect(frozen.get('file')).toMatch(/security\.capability=0x\w+ user\.empty=0x user\.pyro=0x6279746573ff00/)
    expect(frozen.get('folder')).toContain('user.pyro=0x666f6c646572')
    await ws.exec('rm -rf file folder; touch file', { check: true })
    await ws.reset({ snapshot: 'exact' })
    expect(
      listingDifference(frozen, await lookAtDisk(world, ws, 'g2', (root) => listHost(`${root}/workspace`))),
    ).toEqual([])
    expect((await ws.exec(['perl', '-e', getAttribute])).stdout).toBe('bytes\\xff\\x00')
  })
})

describe('exactly as it was, without btrfs', () => {
  let world: World
  beforeAll(async () => {
    world = await World.open({ disk: 'copy' })
  })
  afterAll(() => world[Symbol.asyncDispose]())

  for (const driver of availableDrivers().slice(0, 1)) {
    test(`on ${driver}`, { timeout: CASE_MS }, async () => {
      await expect(restoresExactly(world, driver)).resolves.toBeUndefined()
    })
  }
})

/** Numbers of setxattr and getxattr, which the environment has no program for. */
const [SETXATTR, GETXATTR] = process.arch === 'arm64' ? [5, 8] : [188, 191]

/** A file capability is one, too: `cap_net_bind_service=ep`, revision 2. */
const setAttributes = String.raw`
sub set { my ($path, $name, $value) = @_; syscall(${SETXATTR}, $path, $name, $value, length $value, 0) == 0 or die "$path $name: $!" }
mkdir "folder"; open my $f, ">", "file"; close $f;
set("file", "user.pyro", "bytes\xff\x00"); set("file", "user.empty", ""); set("folder", "user.pyro", "folder");
set("file", "security.capability", pack("V5", 0x02000001, 1 << 10, 0, 0, 0));
`
const getAttribute = String.raw`
my ($path, $name, $value) = ("file", "user.pyro", "x" x 64);
my $n = syscall(${GETXATTR}, $path, $name, $value, 64);
print join "", map { $_ < 127 && $_ > 31 ? chr : sprintf "\\x%02x", $_ } unpack "C*", substr $value, 0, $n;
`
