// `npm test`: the Go tests, then the TypeScript tests. With arguments, only vitest runs, with those arguments:
// `npm test -- test/e2e/reset.test.ts`, `npm test -- --project unit`.
import { join } from 'node:path'
import { goTest } from './test/go-test.ts'
import { report, type Tally } from './test/tally.ts'
import { vitest } from './test/vitest.ts'

const root = join(import.meta.dirname, '..')

const args = process.argv.slice(2)
const tallies: Tally[] = []
if (args.length === 0) tallies.push(await goTest(join(root, 'guest'), (text) => process.stdout.write(text)))
tallies.push(await vitest(root, args))
report(tallies)
