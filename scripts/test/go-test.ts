import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Tally } from './tally.ts'

/** Output kept per test, shown when it fails. */
const OUTPUT_LIMIT_CHARACTERS = 200_000

interface GoTestEvent {
  Action: string
  Package?: string
  ImportPath?: string
  Test?: string
  Output?: string
  Elapsed?: number
}

/** Collects the event stream of `go test -json`. */
export class GoTestEvents {
  readonly #tally: Tally = { passed: 0, failed: 0, skipped: 0 }
  readonly #output = new Map<string, string>()
  readonly #packagesWithFailedTests = new Set<string>()
  readonly #print: (text: string) => void

  constructor(print: (text: string) => void) {
    this.#print = print
  }

  get tally(): Tally {
    return { ...this.#tally }
  }

  line(line: string): void {
    if (!line.startsWith('{')) {
      this.#print(`${line}\n`)
      return
    }
    const event = JSON.parse(line) as GoTestEvent
    const name = event.Package ?? event.ImportPath ?? ''
    const key = `${name}\0${event.Test ?? ''}`
    if (event.Action === 'output' || event.Action === 'build-output') {
      const sofar = this.#output.get(key) ?? ''
      if (sofar.length < OUTPUT_LIMIT_CHARACTERS) this.#output.set(key, sofar + (event.Output ?? ''))
      return
    }
    if (event.Action === 'build-fail') this.#print(this.#output.get(key) ?? '')
    if (event.Test !== undefined) this.#testEvent(event, name, key)
    else this.#packageEvent(event, name, key)
  }

  #testEvent(event: GoTestEvent, name: string, key: string): void {
    if (event.Action === 'pass') this.#tally.passed += 1
    if (event.Action === 'skip') this.#tally.skipped += 1
    if (event.Action === 'fail') {
      this.#tally.failed += 1
      this.#packagesWithFailedTests.add(name)
      this.#print(this.#output.get(key) ?? '')
    }
    if (['pass', 'skip', 'fail'].includes(event.Action)) this.#output.delete(key)
  }

  #packageEvent(event: GoTestEvent, name: string, key: string): void {
    if (event.Action === 'pass') this.#print(`ok    ${name} ${(event.Elapsed ?? 0).toFixed(1)} s\n`)
    if (event.Action !== 'fail') return
    this.#print(`FAIL  ${name} ${(event.Elapsed ?? 0).toFixed(1)} s\n`)
    // Does not build, or its TestMain ended it: no test says so.
    if (this.#packagesWithFailedTests.has(name)) return
    this.#tally.failed += 1
    this.#print(this.#output.get(key) ?? '')
  }
}

/** Runs the Go tests below `folder`. */
export async function goTest(folder: string, print: (text: string) => void): Promise<Tally> {
  const child = spawn('go', ['test', '-json', '-count=1', './...'], {
    cwd: folder,
    env: { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '', GOWORK: 'off', CGO_ENABLED: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code))
  })
  const events = new GoTestEvents(print)
  for await (const line of createInterface({ input: child.stdout })) events.line(line)
  const code = await ended
  const tally = events.tally
  if (code !== 0 && tally.failed === 0) {
    print(`go test ended with ${code} without naming a failed test\n`)
    tally.failed += 1
  }
  return tally
}
