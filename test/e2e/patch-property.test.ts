import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import type { Workspace } from '@pyro/sdk'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { availableDrivers } from '../support/every-driver.ts'
import { applyPatch, comparable, copyTree, notInPatch, unexplained } from '../support/git-patch.ts'
import { TemporaryFolder } from '../support/host-tree.ts'
import { listHost, type Listing } from '../support/lister.ts'
import { World } from '../support/world.ts'

const RUNS = 30
const MANY = 100_000
const CASE_MS = 300_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Few names, so that two trees meet; each is awkward in its own way. Bytes in latin1. */
const NAMES = [
  'a',
  'b c',
  ' lead',
  'trail ',
  '"q"',
  "it's",
  'back\\slash',
  'tab\there',
  'new\nline',
  '-dash',
  '\xc3\xa9',
  '\xff\xfe',
  'a.b',
  'a-b',
  'a0',
  '...',
] as const
const LINES = [
  '',
  'one',
  'two',
  'three',
  '-- minus',
  '++ plus',
  '@@ -1 +1 @@',
  '\\ No newline at end of file',
  'diff --git a/a b/a',
  '\ttab',
  'cr\r',
  'x'.repeat(200),
  '\xff',
] as const

type Node =
  | { readonly kind: 'file'; readonly content: string; readonly executable: boolean }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'folder'; readonly entries: Readonly<Record<string, Node>> }

const content = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.array(fc.constantFrom(...LINES), { maxLength: 12 }), fc.boolean())
      .map(([lines, ends]) => lines.join('\n') + (ends ? '\n' : '')),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes).toString('latin1')) },
  // Long files with a change somewhere, so that there are several hunks with context.
  {
    weight: 1,
    arbitrary: fc
      .array(fc.nat(80), { maxLength: 4 })
      .map((changed) =>
        Array.from({ length: 80 }, (_, at) => (changed.includes(at) ? `changed ${at}\n` : `line ${at}\n`)).join(''),
      ),
  },
)

const { folder: tree } = fc.letrec<{ node: Node; folder: Node & { kind: 'folder' } }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('file' as const), content, executable: fc.boolean() }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('link' as const),
        target: fc.constantFrom('a', 'no where', '\xff', '"'),
      }),
    },
    { weight: 3, arbitrary: tie('folder') },
  ),
  folder: fc.record({
    kind: fc.constant('folder' as const),
    entries: fc.dictionary(fc.constantFrom(...NAMES), tie('node'), { maxKeys: 6 }),
  }),
}))

const write = (path: Buffer, node: Node): void => {
  if (node.kind === 'link') symlinkSync(Buffer.from(node.target, 'latin1'), path)
  else if (node.kind === 'file') {
    writeFileSync(path, Buffer.from(node.content, 'latin1'))
    chmodSync(path, node.executable ? 0o755 : 0o644)
  } else {
    mkdirSync(path, { recursive: true, mode: 0o755 })
    for (const [name, child] of Object.entries(node.entries))
      write(Buffer.concat([path, Buffer.from('/'), Buffer.from(name, 'latin1')]), child)
  }
}

/** What git knows of a tree: no folder for its own sake. */
const files = (listing: Listing): Listing =>
  new Map([...comparable(listing)].filter(([, line]) => !line.startsWith('d')))

describe('the patch', () => {
  for (const driver of availableDrivers().slice(0, 1)) {
    test(`turns any tree into any other, by git apply (on ${driver})`, { timeout: CASE_MS }, async () => {
      using folder = new TemporaryFolder()
      await using ws = await createOn(world, driver)
      const pushed = async (name: string, node: Node): Promise<string> => {
        const place = folder.at(name)
        rmSync(place, { recursive: true, force: true })
        write(Buffer.from(place), node)
        await ws.push(place, { delete: true })
        return place
      }
      await fc.assert(
        fc.asyncProperty(tree, tree, async (one, two) => {
          const from = await pushed('from', one)
          await ws.snapshots.create('from', { replace: true })
          const to = await pushed('to', two)
          const diff = await ws.diff({ from: 'from', ignored: true })
          const copy = folder.at('copy')
          rmSync(copy, { recursive: true, force: true })
          copyTree(from, copy)
          expect(applyPatch(copy, diff.patch)).toEqual({ code: 0, stderr: '' })
          expect(unexplained(files(await listHost(to)), files(await listHost(copy)), notInPatch(diff))).toEqual([])
          // Git knows no empty folder, so it is all that may be left out: a new one, or what takes the place of several.
          const left = diff.result.entries.filter(({ inPatch }) => !inPatch)
          expect(left.filter(({ type, oldType }) => type !== 'directory' && oldType !== 'directory')).toEqual([])
        }),
        { numRuns: RUNS },
      )
    })

    test(
      `lists a hundred thousand ignored files, or only counts them (on ${driver})`,
      { timeout: CASE_MS },
      async () => {
        using folder = new TemporaryFolder()
        writeFileSync(folder.at('.gitignore'), 'node_modules/\n')
        await using ws = await createOn(world, driver, { seed: { path: folder.path } })
        await makeMany(ws)
        const counted = await ws.diff()
        expect(counted.result).toMatchObject({ clean: false, entries: [], patchBytes: 0 })
        expect(counted.result.totals.ignored).toBeGreaterThanOrEqual(MANY)
        const listed = await ws.diff({ ignored: true })
        expect(listed.result.entries.filter(({ type }) => type === 'file').length).toBe(MANY)
        expect(listed.result.patchTruncated).toBe(false)
        const stat = await world.cli(['workspace', 'diff', ws.name, '--ignored', '--stat'])
        expect(stat.code).toBe(0)
        expect(stat.stdout).toContain('node_modules/d99/f999')
      },
    )
  }
})

/** A hundred folders of a thousand files. */
const makeMany = async (ws: Workspace): Promise<void> => {
  const perl =
    'mkdir "node_modules"; for my $d (0 .. 99) { mkdir "node_modules/d$d"; for my $f (0 .. 999) { open my $h, ">", "node_modules/d$d/f$f"; close $h } }'
  await ws.exec(['perl', '-e', perl], { check: true })
}
