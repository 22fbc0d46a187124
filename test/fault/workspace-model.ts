import type { Phase } from '@pyro/protocol'

/** Files of /workspace by path, with their content. */
export type Tree = ReadonlyMap<string, string>

/** What a workspace must be like after the operations that were accepted: no sandbox, no disk, only their meaning. */
export class WorkspaceModel {
  phase: Phase = 'running'
  tree: Tree = new Map()
  readonly snapshots = new Map<string, Tree>([['baseline', new Map()]])
  resetCount = 0
  lastResetSnapshot: string | null = null
  /** Commands since the last reset. */
  commands = 0

  /** A command that wrote a file. */
  ran(path: string, content: string): void {
    this.commands++
    this.wrote(path, content)
  }

  wrote(path: string, content: string): void {
    this.used()
    this.tree = new Map([...this.tree, [path, content]])
  }

  removed(path: string): void {
    this.commands++
    this.used()
    this.tree = new Map([...this.tree].filter(([name]) => name !== path))
  }

  /** What needs a sandbox starts one. */
  used(): void {
    this.phase = 'running'
  }

  saved(name: string): void {
    this.snapshots.set(name, this.tree)
  }

  dropped(name: string): void {
    this.snapshots.delete(name)
  }

  reset(snapshot: string, savedAs: string | null): void {
    if (savedAs !== null) this.saved(savedAs)
    this.tree = this.snapshots.get(snapshot) ?? new Map()
    this.phase = 'running'
    this.resetCount++
    this.lastResetSnapshot = snapshot
    this.commands = 0
  }

  stopped(): void {
    this.phase = 'stopped'
  }

  started(): void {
    this.phase = 'running'
  }

  /** Names of snapshots that can be gone back to or deleted. */
  get named(): string[] {
    return [...this.snapshots.keys()].filter((name) => name !== 'baseline')
  }
}
