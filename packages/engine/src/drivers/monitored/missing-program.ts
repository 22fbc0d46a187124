import type { Probe } from '../../driver/driver.ts'
import type { RuntimeProgram } from './runtime-program.ts'

/** Null when the program is there. */
export async function missingProgram(program: RuntimeProgram, fix: string): Promise<Probe | null> {
  if (process.getuid?.() !== 0)
    return { ok: false, detail: `${program.name} needs root on the host`, fix: 'sudo pyro …' }
  return (await program.find()) === null
    ? { ok: false, detail: `the program ${program.name} is not installed`, fix }
    : null
}
