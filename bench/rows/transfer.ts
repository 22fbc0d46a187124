import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import { withSetting } from '../engine-setting.ts'
import { MachineCopy } from '../floors/machine-copy.ts'
import { shell } from '../floors/program.ts'
import { SerialPort } from '../floors/serial-port.ts'
import { summarize, timeMs, type Samples } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const MIB = 1024 * 1024
const SECOND_MS = 1_000
/** Part of the floor's rate. */
const REACH = 0.5

/** A large file into a machine and out of it. */
export const transfer: Row = {
  name: 'transfer',
  async run(bench: Bench): Promise<Result[]> {
    const mib = bench.quick ? 16 : 1024
    const results: Result[] = []
    for (const driver of bench.machines) {
      const seed = join(bench.scratch, `seed-${driver}`)
      await mkdir(seed)
      await shell(`head -c ${mib}M /dev/urandom > '${join(seed, 'blob')}'`)
      const machine = await bootedMachine(bench, driver)
      results.push(...(await inAndOut(bench, { driver, seed, mib, machine })))
      await machine.remove()
    }
    return results
  },
}

/** One that boots: a template has no place for a further port. */
const bootedMachine = (bench: Bench, driver: string): Promise<MachineCopy> =>
  withSetting(bench.pyro, { name: 'PYRO_MACHINE_TEMPLATES', value: '0' }, async () => {
    const at = { environment: bench.environment, driver: driver as 'runc' }
    await using workspace = await bench.pyro.workspaces.create(at)
    return await MachineCopy.of(bench, workspace, join(bench.scratch, `port-${driver}`))
  })

interface Transfer {
  readonly driver: string
  /** Folder with one file. */
  readonly seed: string
  readonly mib: number
  readonly machine: MachineCopy
}

const inAndOut = async (bench: Bench, { driver, seed, mib, machine }: Transfer): Promise<Result[]> => {
  const bytes = mib * MIB
  await using port = await SerialPort.open(machine)
  const measured: Round[] = []
  for (let run = -1; run < (bench.quick ? 1 : 3); run += 1) {
    const round = await oneRound(bench, { driver, seed, bytes, port })
    // The first makes the template of the machine that reads what is exported.
    if (run >= 0) measured.push(round)
  }
  const medianOf = (key: keyof Round): Samples => summarize(measured.map((round) => round[key]))
  const result = (what: string, floorName: string, subject: Samples, floor: Samples): Result => ({
    what: `${what} ${mib} MiB`,
    driver,
    subject,
    floor,
    floorName,
    reach: `${REACH * 100}% of its rate`,
    holds: subject.medianMs * REACH <= floor.medianMs,
    note: `${rate(subject, mib)} beside ${rate(floor, mib)} MiB/s`,
  })
  return [
    result('seed', 'cat from a serial port to a file', medianOf('seedMs'), medianOf('sendMs')),
    result('export', 'cat from a file to a serial port', medianOf('exportMs'), medianOf('receiveMs')),
  ]
}

interface Round {
  readonly seedMs: number
  readonly sendMs: number
  readonly exportMs: number
  readonly receiveMs: number
}

const oneRound = async (
  bench: Bench,
  { driver, seed, bytes, port }: { driver: string; seed: string; bytes: number; port: SerialPort },
): Promise<Round> => {
  const at = { environment: bench.environment, driver: driver as 'runc', seed: { path: seed } }
  let made: Workspace | undefined
  const seedMs = await timeMs(async () => {
    made = await bench.pyro.workspaces.create(at)
  })
  const sendMs = await timeMs(() => port.send(join(seed, 'blob'), { into: '/workspace/blob', bytes }))
  const exportMs = await timeMs(async () => made !== undefined && exportTo(made, bytes))
  const receiveMs = await timeMs(() => port.receive('/workspace/blob', bytes))
  await made?.delete()
  return { seedMs, sendMs, exportMs, receiveMs }
}

const exportTo = async (workspace: Workspace, bytes: number): Promise<void> => {
  let arrived = 0
  await workspace.export('blob', { output: (part) => void (arrived += part.byteLength), format: 'tar' })
  if (arrived < bytes) throw new Error(`${arrived} bytes arrived`)
}

const rate = ({ medianMs }: Samples, mib: number): string => ((mib * SECOND_MS) / medianMs).toFixed(1)
