import { fixture, isOwnCode, isTest, matchLines, matchText, type Rule, type SourceFile } from '../sources.ts'

const DRIVER_ID = `['"](?:firecracker|qemu|runsc|runc|incus|fake)['"]`

/** Where trees may be removed and programs started (engine); the clients start the engine and git. */
const DANGEROUS_FOLDERS = new Set(['process', 'disk', 'drivers', 'environment', 'store'])

export const codeRules: readonly Rule[] = [
  {
    name: 'no error is swallowed: no empty catch, and a rejection is ignored only with its reason beside it',
    check: (files) =>
      files
        .filter(({ path }) => isOwnCode(path) && !path.endsWith('.go'))
        .flatMap((file) => [
          ...matchText(file, /catch\s*(?:\([^)]*\))?\s*\{\s*(?:\/\/[^\n]*\s*|\/\*[\s\S]*?\*\/\s*)*\}/, 'empty catch'),
          ...matchText(
            file,
            // A statement `promise.catch(() => undefined)` only says that somebody else awaits the promise: that one is fine.
            /(?:[)\]]|\b(?:await|return|void)\b[^\n]*|=[^\n]*)\.catch\(\s*(?:\([^)]*\)|\w+)\s*=>\s*(?:\{\s*\}|undefined|null|void 0)\s*,?\s*\)/,
            'swallowed rejection',
          ).filter(({ line }) => !hasComment(file, line)),
        ]),
    caught: [
      fixture('packages/engine/src/a.ts', 'try { f() } catch {}'),
      fixture('packages/engine/src/a.ts', 'try { f() } catch (error) {\n  // whatever\n}'),
      fixture('packages/engine/src/a.ts', 'await f().catch(() => {})'),
      fixture('packages/engine/src/a.ts', 'await f().catch(() => undefined)'),
      fixture('packages/engine/src/a.ts', 'await promise.catch(() => undefined)'),
      fixture('packages/engine/src/a.ts', 'const a = await promise.catch(() => null)'),
    ],
    allowed: [
      fixture('packages/engine/src/a.ts', '  this.ready.catch(() => undefined)'),
      fixture('packages/engine/src/a.ts', '  // Its owner reports it.\n  await this.ready.catch(() => undefined)'),
      fixture(
        'packages/engine/src/a.ts',
        "try { f() } catch (error) {\n  if (errnoOf(error) !== 'ENOENT') throw error\n}",
      ),
    ],
  },
  {
    name: 'no driver id is compared outside drivers/',
    check: (files) =>
      matchLines(
        files,
        (path) =>
          /^packages\/[^/]+\/src\//.test(path) && !path.startsWith('packages/engine/src/drivers/') && !isTest(path),
        new RegExp(`(?:[!=]==?\\s*${DRIVER_ID})|(?:${DRIVER_ID}\\s*[!=]==?)|(?:\\bcase\\s+${DRIVER_ID})`),
        'only drivers/ knows drivers',
      ),
    caught: [
      fixture('packages/engine/src/workspace/create.ts', "if (driver.id === 'runsc') return"),
      fixture('packages/cli/src/render/record.ts', "switch (driver) { case 'runc': break }"),
    ],
    allowed: [
      fixture('packages/engine/src/drivers/oci/spec.ts', "if (id === 'runsc') return"),
      fixture('packages/protocol/src/model/workspace.ts', "z.enum(['runsc', 'runc'])"),
    ],
  },
  {
    name: 'no test is focused, skipped or left for later',
    check: (files) => [
      ...matchLines(
        files,
        (path) => isOwnCode(path) && path.endsWith('.ts'),
        /\b(?:describe|test|it|suite)(?:\.\w+)*\.(?:only|skip|todo|fails|skipIf|runIf)\b/,
        'a test runs or fails',
      ),
      ...matchLines(
        files,
        (path) => isOwnCode(path) && path.endsWith('.ts'),
        /\b(?:context|ctx)\.skip\(/,
        'a test runs or fails',
      ),
      ...matchLines(files, (path) => path.endsWith('_test.go'), /\b[tb]\.Skip(?:f|Now)?\(/, 'a test runs or fails'),
    ],
    caught: [
      fixture('test/e2e/reset.test.ts', "test.only('x', () => {})"),
      fixture('test/e2e/reset.test.ts', "describe.concurrent.skip('x', () => {})"),
      fixture('test/e2e/reset.test.ts', "test.skipIf(process.getuid() !== 0)('x', () => {})"),
      fixture('guest/internal/exec/exec_test.go', 't.Skip("not root")'),
    ],
    allowed: [fixture('test/e2e/reset.test.ts', "test('reset skips nothing', () => {})")],
  },
  {
    name: 'programs are started and trees removed only in process/, disk/, drivers/, environment/, store/',
    check: (files) => [
      ...matchLines(files, isCarefulFolder, /from 'node:child_process'/, 'programs start in process/'),
      ...matchLines(
        files,
        isCarefulFolder,
        /\b(?:rm|rmSync)\([^)]*recursive:\s*true/,
        'trees are removed in disk/ or drivers/',
      ),
    ],
    caught: [
      fixture('packages/engine/src/workspace/create.ts', "import { spawn } from 'node:child_process'"),
      fixture('packages/engine/src/snapshot/remove.ts', 'await rm(path, { recursive: true, force: true })'),
    ],
    allowed: [
      fixture('packages/engine/src/process/run.ts', "import { spawn } from 'node:child_process'"),
      fixture('packages/engine/src/workspace/create.ts', 'await rm(file, { force: true })'),
    ],
  },
  {
    // What Go seeds at its start is in the memory that machines of one template share.
    name: 'the agent draws from the kernel alone: no source of randomness in Go that is seeded once',
    check: (files) =>
      matchLines(
        files,
        (path) => /^guest\/.*\.go$/.test(path) && !isTest(path),
        /"(?:math\/rand(?:\/v2)?|hash\/maphash)"/,
        'take crypto/rand',
      ),
    caught: [
      fixture('guest/internal/a.go', 'import "math/rand"'),
      fixture('guest/internal/a.go', 'import (\n\t"math/rand/v2"\n)'),
      fixture('guest/internal/a.go', 'import "hash/maphash"'),
    ],
    allowed: [
      fixture('guest/internal/a.go', 'import "crypto/rand"'),
      fixture('guest/internal/a_test.go', 'import "math/rand/v2"'),
    ],
  },
  {
    name: 'nothing is left as a note to self',
    check: (files) =>
      matchLines(files, isOwnCode, /\b(?:TODO|FIXME|XXX|HACK)\b/, 'do it, or name it in docs/limitations.md'),
    caught: [fixture('packages/engine/src/a.ts', '// TODO later'), fixture('guest/internal/a.go', '// FIXME')],
    allowed: [fixture('packages/engine/src/a.ts', 'const todoList = []')],
  },
]

/** A comment on the line, or right above it. */
function hasComment(file: SourceFile, line: number | null): boolean {
  const lines = file.text.split('\n')
  const at = (line ?? 1) - 1
  return /\/\/ \S/.test(lines[at] ?? '') || /^\s*(?:\/\/ \S|\*\/)/.test(lines[at - 1] ?? '')
}

function isCarefulFolder(path: string): boolean {
  const folder = /^packages\/engine\/src\/([^/]+)\//.exec(path)?.[1]
  return folder !== undefined && !DANGEROUS_FOLDERS.has(folder) && !isTest(path)
}
