import { defineConfig, type UserWorkspaceConfig } from 'vitest/config'

/** Tests of pure logic end in milliseconds; the real world (sandboxes, mounts, the engine) is given its time. */
const PURE_TIMEOUT_MS = 20_000
const HOST_TIMEOUT_MS = 180_000

/** Node runs our TypeScript as it is: the tests load the very files that users run, not a transformed copy. */
const experimental = { viteModuleRunner: false, nodeLoader: false }

const FILES_AT_A_TIME = 2
const HOST_FILES = ['test/**/*.test.ts', 'packages/driver-testkit/**/*.test.ts', 'examples/**/*.test.ts']
const ALONE_FILES = 'test/**/*.alone.test.ts'
const NOT_HOST = ['test/tidy/**', '**/node_modules/**', '**/dist/**']
const HOST: NonNullable<UserWorkspaceConfig['test']> = {
  pool: 'forks',
  experimental,
  globalSetup: ['test/support/global-setup.ts'],
  testTimeout: HOST_TIMEOUT_MS,
  hookTimeout: HOST_TIMEOUT_MS,
}

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
        // Whatever spawns, listens or mounts. Each world keeps to itself, and half the time a file waits: two at a time.
        test: {
          ...HOST,
          name: 'host',
          include: HOST_FILES,
          exclude: [...NOT_HOST, ALONE_FILES],
          maxWorkers: FILES_AT_A_TIME,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // What turns a knob of the whole host, fills it, or has to be on time.
        test: {
          ...HOST,
          name: 'alone',
          include: [ALONE_FILES],
          exclude: NOT_HOST,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
