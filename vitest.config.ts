import { defineConfig } from 'vitest/config'

/** Tests of pure logic end in milliseconds; the real world (sandboxes, mounts, the engine) is given its time. */
const PURE_TIMEOUT_MS = 20_000
const HOST_TIMEOUT_MS = 180_000

/** Node runs our TypeScript as it is: the tests load the very files that users run, not a transformed copy. */
const experimental = { viteModuleRunner: false, nodeLoader: false }

export default defineConfig({
  test: {
    pool: 'forks',
    experimental,
    projects: [
      {
        test: {
          name: 'unit',
          pool: 'forks',
          experimental,
          include: ['packages/*/src/**/*.test.ts', 'scripts/**/*.test.ts', 'bench/**/*.test.ts'],
          exclude: ['packages/driver-testkit/**'],
          testTimeout: PURE_TIMEOUT_MS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'tidy',
          pool: 'forks',
          experimental,
          include: ['test/tidy/**/*.test.ts'],
          testTimeout: PURE_TIMEOUT_MS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        // Whatever spawns, listens or mounts. One file at a time: teardown asserts that the host is as it was before.
        test: {
          name: 'host',
          pool: 'forks',
          experimental,
          globalSetup: ['test/support/global-setup.ts'],
          include: ['test/**/*.test.ts', 'packages/driver-testkit/**/*.test.ts', 'examples/**/*.test.ts'],
          exclude: ['test/tidy/**', '**/node_modules/**', '**/dist/**'],
          fileParallelism: false,
          testTimeout: HOST_TIMEOUT_MS,
          hookTimeout: HOST_TIMEOUT_MS,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
