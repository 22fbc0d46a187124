// `clear-dead-runs.ts PID`: clears what dead runs have left, as soon as that process is gone.
import { clearDeadRuns } from './host-run.ts'
import { isRunning, until } from './world.ts'

const pid = Number(process.argv[2])
await until(() => !isRunning(pid), `the end of ${pid}`)
await clearDeadRuns()
