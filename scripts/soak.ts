// `npm run soak [-- FILES]`: the tests that draw their input at random or work under load, far longer than in `npm test`.
import { join } from 'node:path'
import { report } from './test/tally.ts'
import { vitest } from './test/vitest.ts'

const root = join(import.meta.dirname, '..')
const FILES = ['test/fault/hostile-stream.test.ts', 'test/microvm/still-disk.test.ts']
const TIMEOUT_MS = 2 * 60 * 60_000

const given = process.argv.slice(2)
const files = given.length === 0 ? FILES : given
report([await vitest(root, ['--project', 'host', `--testTimeout=${TIMEOUT_MS}`, ...files], { PYRO_SOAK: '1' })])
