import { fixture, isOwnCode, isTest, type Rule, type Violation } from '../sources.ts'

/** One main concept a file. A file that outgrows this wants to be two. */
const SOURCE_LINES = 400
/** Go spends a line on every error. */
const GO_LINES = 500
/** A suite lists cases; it may be longer. */
const TEST_LINES = 700
const ARCHITECTURE_LINES = 400

/** Folders that say nothing about what is in them attract everything. */
const MEANINGLESS_FOLDERS = new Set([
  'utils',
  'util',
  'helpers',
  'helper',
  'common',
  'manager',
  'managers',
  'misc',
  'shared',
])

const line = 'x\n'

export const placeRules: readonly Rule[] = [
  {
    name: `a source file has at most ${SOURCE_LINES} lines (Go: ${GO_LINES}), a test ${TEST_LINES}`,
    check: (files) =>
      files.flatMap(({ path, text }): Violation[] => {
        const limit = lineLimit(path)
        const lines = text.split('\n').length - 1
        return limit !== null && lines > limit
          ? [{ path, line: null, message: `${lines} lines, at most ${limit}` }]
          : []
      }),
    caught: [
      fixture('packages/engine/src/disk/pool.ts', line.repeat(SOURCE_LINES + 1)),
      fixture('guest/internal/exec/exec.go', line.repeat(GO_LINES + 1)),
      fixture('packages/engine/src/disk/pool.test.ts', line.repeat(TEST_LINES + 1)),
      fixture('ARCHITECTURE.md', line.repeat(ARCHITECTURE_LINES + 1)),
    ],
    allowed: [
      fixture('packages/engine/src/disk/pool.ts', line.repeat(SOURCE_LINES)),
      fixture('packages/sdk/src/generated/client.ts', line.repeat(5000)),
      fixture('docs/public-contract.md', line.repeat(5000)),
    ],
  },
  {
    name: 'only package roots and drivers/ have an index.ts',
    check: (files) =>
      files
        .filter(({ path }) => /(^|\/)index\.(ts|js|mjs)$/.test(path))
        .filter(({ path }) => !/^packages\/[^/]+\/src\/(drivers\/)?index\.ts$/.test(path))
        .map(({ path }) => ({ path, line: null, message: 'name the file after what it holds' })),
    caught: [fixture('packages/engine/src/disk/index.ts', ''), fixture('test/e2e/index.ts', '')],
    allowed: [fixture('packages/sdk/src/index.ts', ''), fixture('packages/engine/src/drivers/index.ts', '')],
  },
  {
    name: 'folders are nouns of the domain, never utils, helpers, common, manager, misc',
    check: (files) =>
      files.flatMap(({ path }): Violation[] => {
        const bad = path
          .split('/')
          .slice(0, -1)
          .find((folder) => MEANINGLESS_FOLDERS.has(folder))
        return bad === undefined ? [] : [{ path, line: null, message: `folder ${bad} says nothing` }]
      }),
    caught: [fixture('packages/cli/src/utils/table.ts', ''), fixture('test/e2e/helpers/engine.ts', '')],
    allowed: [fixture('packages/cli/src/render/table.ts', '')],
  },
  {
    name: 'TypeScript and JavaScript files and folders are kebab-case',
    check: (files) =>
      files
        .filter(({ path }) => /\.(ts|js|mjs)$/.test(path))
        .filter(({ path }) => !path.split('/').every((part) => /^\.?[a-z0-9]+([-.][a-z0-9]+)*$/.test(part)))
        .map(({ path }) => ({ path, line: null, message: 'not kebab-case' })),
    caught: [fixture('packages/cli/src/render/workspaceTable.ts', ''), fixture('packages/cli/src/Render/table.ts', '')],
    allowed: [fixture('packages/cli/src/render/workspace-table.test.ts', '')],
  },
]

function lineLimit(path: string): number | null {
  if (path === 'ARCHITECTURE.md') return ARCHITECTURE_LINES
  if (!isOwnCode(path) && !path.startsWith('test/tidy/')) return null
  if (/\/generated\/|\.generated\.ts$/.test(path)) return null
  if (isTest(path)) return TEST_LINES
  return path.endsWith('.go') ? GO_LINES : SOURCE_LINES
}
