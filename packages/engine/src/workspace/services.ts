import type { Progress } from '@pyro/protocol'
import type { DiskImageHost } from '../disk/disk-image.ts'
import type { VolumeId } from '../disk/disk-store.ts'
import type { Environments } from '../environment/environments.ts'
import type { EngineConfig } from '../lib/config.ts'
import type { FaultPlan } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import type { OfflineAgent } from '../offline/offline-agent.ts'
import type { Store } from '../store/store.ts'
import type { Admission } from './admission.ts'
import type { DriverChoice } from './driver-choice.ts'
import type { Releaser } from './releaser.ts'
import type { VolumePins } from './volume-pins.ts'

/** What the parts of a workspace work with. Made once, in main.ts. */
export interface Services {
  readonly config: EngineConfig
  readonly store: Store
  readonly drivers: DriverChoice
  readonly environments: Environments
  /** Makes disk images. */
  readonly images: DiskImageHost
  readonly offline: OfflineAgent
  readonly admission: Admission
  readonly pins: VolumePins
  readonly releaser: Releaser
  readonly fault: FaultPlan | null
  readonly log: Log
}

/** What every operation gets of the call that asked for it. */
export interface Call {
  /** Aborts when the caller cancels, not when it vanishes. */
  readonly signal: AbortSignal
  /** A repeated call of this id gets the answer of the first one. */
  readonly requestId: string | null
  readonly onProgress?: (progress: Progress) => void
  /** Called when a stopped workspace was started because the operation needs its sandbox. */
  readonly onStarted?: (name: string) => void
}

/** A call of the engine itself. */
export const ownCall = (): Call => ({ signal: new AbortController().signal, requestId: null })

export const volumeId = (text: string): VolumeId => text as VolumeId
