import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestedDriver } from '@pyro/driver-testkit'
import { isErrorCode } from '@pyro/protocol'
import { isPyroError, type ErrorCode, type Workspace } from '@pyro/sdk'
import { expect } from 'vitest'
import { ENVIRONMENT, type World } from '../support/world.ts'
import type { Random } from './random.ts'
import { WorkspaceModel, type Tree } from './workspace-model.ts'

const SIZE = { memoryMib: 64, diskMib: 512, vcpus: 1 } as const

/** One workspace, what it should be like, and what happens to it. */
export class Lane {
  readonly world: World
  readonly #driver: TestedDriver
  readonly #random: Random
  readonly #name: string
  ws: Workspace
  model = new WorkspaceModel()
  /** What was done, for a failure. */
  readonly story: string[] = []
  /** The story, as it stands when it is asked for. */
  readonly told = (): string => `${this.#name}: ${this.story.join('; ')}`
  #serial = 0

  private constructor(parts: { world: World; driver: TestedDriver; random: Random; name: string; ws: Workspace }) {
    this.world = parts.world
    this.#driver = parts.driver
    this.#random = parts.random
    this.#name = parts.name
    this.ws = parts.ws
  }

  static async open(world: World, driver: TestedDriver, random: Random, name: string): Promise<Lane> {
    return new Lane({ world, driver, random, name, ws: await create(world, driver, name) })
  }

  async step(): Promise<void> {
    const steps = [
      () => this.#exec(),
      () => this.#exec(),
      () => this.#writeFile(),
      () => this.#remove(),
      () => this.#snapshot(),
      () => this.#snapshot(),
      () => this.#twinSnapshots(),
      () => this.#dropSnapshot(),
      () => this.#reset(),
      () => this.#twoResets(),
      () => this.#resetUnderCommand(),
      () => this.#cancelledReset(),
      () => this.#stop(),
      () => this.#stopAndStart(),
      () => this.#start(),
      () => this.#diff(),
      () => this.#replace(),
    ] as const
    await this.#random.pick(steps)()
  }

  /** Looks, changes of labels and cancelled work, whose answers depend on what goes on beside them. */
  async disturb(): Promise<void> {
    const { ws } = this
    const soon = AbortSignal.timeout(this.#random.below(60))
    const disturbances: [() => Promise<unknown>, ...(() => Promise<unknown>)[]] = [
      () => ws.status(),
      () => this.world.pyro.workspaces.list(),
      () => ws.commands.list(),
      () => ws.snapshots.list(),
      () => ws.diff({ patch: false }),
      () => ws.export('/etc/hostname', { output: () => undefined }),
      () => ws.update({ labels: { touched: String(this.#random.below(100)) } }),
      () => ws.diff({ root: '/', patch: false, signal: soon }),
      () =>
        create(this.world, this.#driver, `${this.#name}-cancelled-${this.#random.below(1e6)}`, soon).then((made) =>
          made.delete(),
        ),
    ]
    await catalogued(this.#random.pick(disturbances)(), ['workspace.not-found', 'request.cancelled'])
  }

  async #exec(): Promise<void> {
    const { path, content } = this.#fresh()
    this.story.push(`exec ${path}`)
    const result = await this.ws.exec(`printf ${content} > /workspace/${path}`)
    like(result, { exitCode: 0, sequence: this.model.commands + 1 })
    this.model.ran(path, content)
  }

  async #writeFile(): Promise<void> {
    const { path, content } = this.#fresh()
    this.story.push(`file write ${path}`)
    await this.ws.files.write(path, content)
    this.model.wrote(path, content)
  }

  async #remove(): Promise<void> {
    const path = [...this.model.tree.keys()][0] ?? 'none'
    this.story.push(`remove ${path}`)
    await this.ws.exec(['rm', '-f', `/workspace/${path}`], { check: true })
    this.model.removed(path)
  }

  async #snapshot(): Promise<void> {
    const known = this.model.named[0]
    const name = known !== undefined && this.#random.below(3) === 0 ? known : this.#freshName()
    const replace = this.#random.below(2) === 0
    this.story.push(`snapshot ${name} replace=${replace}`)
    const expected: ErrorCode[] = known === name && !replace ? ['snapshot.exists'] : []
    const answer = await catalogued(this.ws.snapshots.create(name, { replace }), expected)
    same(answer === null, expected.length > 0)
    if (answer !== null) this.model.saved(name)
  }

  async #twinSnapshots(): Promise<void> {
    const name = this.#freshName()
    this.story.push(`two snapshots ${name}`)
    const calls = [this.ws.snapshots.create(name), this.ws.snapshots.create(name)]
    const answers = await Promise.all(calls.map((call) => catalogued(call, ['snapshot.exists'])))
    same(answers.filter((answer) => answer !== null).length, 1)
    this.model.saved(name)
  }

  async #dropSnapshot(): Promise<void> {
    const name = this.model.named[0]
    this.story.push(`delete snapshot ${name ?? 'unknown'}`)
    if (name === undefined) {
      const answer = await catalogued(this.ws.snapshots.delete('unknown'), ['snapshot.not-found'])
      same(answer, null)
      return
    }
    await this.ws.snapshots.delete(name)
    this.model.dropped(name)
  }

  async #reset(): Promise<void> {
    const snapshot = this.#target()
    const saveAs = this.#random.below(2) === 0 ? this.#freshName() : null
    this.story.push(`reset ${snapshot} ${saveAs ?? ''}`)
    const reset = await this.ws.reset({ snapshot, ...(saveAs === null ? {} : { saveAs }) })
    same(reset.cleared.commands, this.model.commands)
    this.model.reset(snapshot, saveAs)
  }

  /** Both are done, one after the other: the generation says which came last. */
  async #twoResets(): Promise<void> {
    const targets = [this.#target(), 'baseline']
    this.story.push(`resets ${targets.join(' and ')}`)
    const resets = await Promise.all(targets.map((snapshot) => this.ws.reset({ snapshot })))
    for (const { snapshot } of resets.sort((a, b) => a.generation - b.generation)) this.model.reset(snapshot, null)
  }

  /** A command that runs into a reset was before it, and gone with it, or after it. */
  async #resetUnderCommand(): Promise<void> {
    const { path, content } = this.#fresh()
    const snapshot = this.#target()
    this.story.push(`exec ${path} beside reset ${snapshot}`)
    const exec = catalogued(this.ws.exec(`sleep 0.0${this.#random.below(9)}; printf ${content} > /workspace/${path}`), [
      'command.interrupted',
    ])
    const { cleared } = await this.ws.reset({ snapshot })
    const wasBefore = cleared.commands > this.model.commands
    this.model.reset(snapshot, null)
    const result = await exec
    if (!wasBefore) {
      same(result?.sequence, 1)
      this.model.ran(path, content)
    }
  }

  async #cancelledReset(): Promise<void> {
    const snapshot = this.#target()
    const signal = AbortSignal.timeout(this.#random.below(80))
    this.story.push(`reset ${snapshot}, cancelled`)
    const answer = await catalogued(this.ws.reset({ snapshot, signal }), ['request.cancelled'])
    if (answer !== null) this.model.reset(snapshot, null)
  }

  async #stop(): Promise<void> {
    this.story.push('stop')
    like(await this.ws.stop(), { phase: 'stopped' })
    this.model.stopped()
  }

  async #start(): Promise<void> {
    this.story.push('start')
    like(await this.ws.start(), { phase: 'running' })
    this.model.started()
  }

  /** Both are done: whether the start made a newer sandbox than the one that was stopped says which came last. */
  async #stopAndStart(): Promise<void> {
    this.story.push('stop and start')
    const before = (await this.ws.status()).generation
    const [stopped, started] = await Promise.all([this.ws.stop(), this.ws.start()])
    same([stopped.phase, started.phase], ['stopped', 'running'])
    const startCameLast = this.model.phase === 'running' ? started.generation > before : stopped.generation === before
    if (startCameLast) this.model.started()
    else this.model.stopped()
  }

  async #diff(): Promise<void> {
    this.story.push('diff')
    const { result } = await this.ws.diff({ patch: false })
    same(result.entries.map(({ path }) => path).sort(), [...this.model.tree.keys()].sort())
  }

  /** Deleted, and another one made under its name. */
  async #replace(): Promise<void> {
    this.story.push('delete and create')
    const gone = this.ws
    const deletes = await Promise.all([gone.delete(), gone.delete()])
    same(
      deletes.flatMap(({ deleted }) => deleted.map(({ workspaceId }) => workspaceId)),
      [gone.id],
    )
    this.ws = await create(this.world, this.#driver, this.#name)
    same(this.ws.id === gone.id, false)
    this.model = new WorkspaceModel()
  }

  #target(): string {
    return this.#random.pick(['baseline', ...this.model.named])
  }

  #freshName(): string {
    return `s${this.#serial++}`
  }

  #fresh(): { path: string; content: string } {
    const serial = this.#serial++
    return { path: `f${serial}`, content: `content-${serial}` }
  }
}

const same = (seen: unknown, wanted: unknown): void => expect(seen).toEqual(wanted)
const like = (seen: unknown, wanted: object): void => expect(seen).toMatchObject(wanted)

const create = (world: World, driver: TestedDriver, name: string, signal?: AbortSignal): Promise<Workspace> =>
  world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, name, ...SIZE, signal, keep: true })

/** The answer, or null for one of these errors; any other is a failure. */
const catalogued = async <T>(call: Promise<T>, allowed: readonly ErrorCode[]): Promise<T | null> => {
  try {
    return await call
  } catch (error) {
    if (!isPyroError(error)) throw error
    expect(error).toSatisfy(({ code }: { code: string }) => isErrorCode(code) && allowed.includes(code))
    return null
  }
}

/** What an export brings: the tree as somebody else sees it. */
const exportedTree = async (world: World, ws: Workspace, snapshot: string): Promise<Tree> => {
  const folder = mkdtempSync(join(world.folder, 'tree-'))
  const output = join(folder, 'workspace')
  await ws.export('/workspace', { output, snapshot })
  const tree = new Map(readdirSync(output).map((name) => [name, readFileSync(join(output, name), 'utf8')]))
  rmSync(folder, { recursive: true })
  return tree
}

export const expectLikeModel = async ({ world, ws, model }: Lane): Promise<void> => {
  expect(await ws.status()).toMatchObject({
    phase: model.phase,
    failure: null,
    resetCount: model.resetCount,
    lastResetSnapshot: model.lastResetSnapshot,
    commandCount: model.commands,
  })
  const names = (await ws.snapshots.list()).map(({ name }) => name)
  expect(names.sort()).toEqual([...model.snapshots.keys()].sort())
  for (const [name, tree] of [...model.snapshots, ['current', model.tree] as const]) {
    expect({ name, tree: await exportedTree(world, ws, name) }).toEqual({ name, tree: new Map(tree) })
  }
}
