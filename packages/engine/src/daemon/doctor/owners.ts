import { groupOf, isMomentary, type VolumeId } from '../../disk/disk-store.ts'
import type { SandboxRecord } from '../../driver/driver.ts'
import type { Engine } from '../engine.ts'
import type { Claim } from './thing.ts'

/** A driver that is tried out starts sandboxes of such names. */
const PROBE_PREFIX = 'probe-'

type Ids = Readonly<Record<Exclude<Claim['of'], 'flush' | 'nobody'>, ReadonlySet<string>>>

/**
 * Who owns what at one moment. Names are committed before the things they name are made and forgotten after these are gone: what
 * existed between two readings and is owned in neither of them is nobody's, unless it lived for less than that moment.
 */
export class Owners {
  readonly #ids: Ids
  /** Workspaces with diffs or exports under way: their momentary volumes are named as they are made. */
  readonly #looking: ReadonlySet<string>
  readonly #isProbing: boolean
  readonly #isFlushing: boolean

  private constructor(parts: {
    readonly ids: Ids
    readonly looking: ReadonlySet<string>
    readonly isProbing: boolean
    readonly isFlushing: boolean
  }) {
    this.#ids = parts.ids
    this.#looking = parts.looking
    this.#isProbing = parts.isProbing
    this.#isFlushing = parts.isFlushing
  }

  static async read(engine: Engine): Promise<Owners> {
    const { store, environments, drivers } = engine.services
    const environmentVolumes = await environments.volumes()
    // From here on in one go: nothing changes hands between two tables.
    const rows = store.workspaces.all()
    const sandboxes = store.sandboxes.all()
    const intents = store.intents.all()
    const releases = store.releases.all()
    const live = engine.workspaces.all()
    const looking = new Set(live.filter(({ looks }) => looks > 0).map(({ id }) => id))
    const planned = intents.flatMap(({ plan }) => textsIn(plan))
    const things = releases.map(({ thing }) => thing)
    return new Owners({
      ids: {
        sandbox: new Set([
          ...sandboxes.map(({ id }) => id),
          ...things.flatMap((thing) => (thing.kind === 'sandbox' ? [thing.sandbox] : [])),
          ...live.flatMap(({ sandbox }) => (sandbox === null ? [] : [sandbox.record.spec.sandboxId])),
        ]),
        volume: new Set([
          ...environmentVolumes,
          ...rows.flatMap(({ volume, environment }) => [volume, environment.volume]),
          ...store.snapshots.all().map(({ volume }) => volume),
          ...sandboxes.map(({ record }) => (record as SandboxRecord).spec.volume.id),
          ...things.flatMap((thing) => (thing.kind === 'volume' ? [thing.volume] : [])),
          ...planned,
        ]),
        workspace: new Set([
          ...rows.map(({ id }) => id),
          ...live.map(({ id }) => id),
          ...intents.map(({ subject }) => subject),
          ...releases.map(({ workspaceId }) => workspaceId),
        ]),
        command: new Set([
          ...rows.flatMap(({ id }) => [...store.commands.ids(id)]),
          ...things.flatMap((thing) => (thing.kind === 'command-log' ? [thing.command] : [])),
        ]),
        folder: new Set(environments.folders()),
      },
      looking,
      isProbing: drivers.isProbing,
      isFlushing: intents.length > 0 || looking.size > 0,
    })
  }

  owns(claim: Claim): boolean {
    switch (claim.of) {
      case 'nobody':
        return false
      case 'flush':
        return this.#isFlushing
      case 'sandbox':
        return this.#ids.sandbox.has(claim.id) || (claim.id.startsWith(PROBE_PREFIX) && this.#isProbing)
      case 'volume':
        return this.#ids.volume.has(claim.id) || this.#isLookedAt(claim.id)
      case 'command':
        return this.#ids.command.has(claim.id) || !this.#ids.workspace.has(claim.workspaceId)
      case 'workspace':
      case 'folder':
        return this.#ids[claim.of].has(claim.id)
    }
  }

  #isLookedAt(volume: string): boolean {
    const id = volume as VolumeId
    return isMomentary(id) && this.#looking.has(groupOf(id))
  }
}

/** Every text anywhere in a plan: whatever it names has an owner. */
const textsIn = (value: unknown): string[] => {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}
