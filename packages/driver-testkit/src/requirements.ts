import { ENVIRONMENTS } from './environment-requirements.ts'
import { CONFINEMENT, HELD } from './confinement-requirements.ts'
import { EVERYDAY } from './everyday-requirements.ts'

/** Drivers that the suites run on. `fake` has no isolation and no limits; it runs wherever Linux does. */
export const DRIVERS = ['runc', 'runsc', 'qemu', 'fake'] as const
export type TestedDriver = (typeof DRIVERS)[number]

export interface Requirement {
  /** A sentence of behaviour. */
  readonly text: string
  /** Why a driver does not have it. */
  readonly exempt?: Partial<Record<TestedDriver, string>>
}

/**
 * What every driver does the same. Each entry is cited by a test (`onEveryDriver(id, …)`); one that no test cites fails the build.
 * `docs/parity.md` is made from this list.
 */
export const REQUIREMENTS = {
  ...EVERYDAY,
  ...CONFINEMENT,
  ...ENVIRONMENTS,
  'killed.create': {
    text: 'an engine killed at any step of create leaves no trace but the workspace that its caller then gets',
  },
  'killed.start': {
    text: 'an engine killed at any step of start leaves the disk as it was and the caller gets a running workspace',
  },
  'killed.stop': {
    text: 'an engine killed at any step of stop leaves the disk as it was and the caller gets a stopped workspace',
  },
  'killed.snapshot': {
    text: 'an engine killed at any step of snapshot create loses no snapshot and the caller gets its own',
  },
  'killed.reset': {
    text: 'an engine killed at any step of reset loses no snapshot and the caller gets the workspace that it asked for',
  },
  'killed.delete': {
    text: 'an engine killed at any step of delete leaves nothing of the workspace and the caller is told what went',
  },
  'killed.exec': {
    text: 'a command goes on when engines are killed under it; its caller gets every byte and the exit code',
  },
  'killed.exec-input': {
    text: 'standard input that died with its engine is told to the caller, and its command gets an end of it',
  },
  'killed.exec-once': {
    text: 'a command whose engine is killed at any moment of its start runs exactly once',
  },
  'killed.exec-interrupted': {
    text: 'a command that a reset, stop or delete ended is reported so, also when the engine was killed in between',
  },
  'killed.run': {
    text: 'a run whose engine is killed before, after or while it works ends as any other and leaves nothing',
  },
  'frozen.left': {
    text: 'a workspace whose sandbox is frozen is listed within a second, left by reset, stop and delete, and nobody else notices',
  },
  'frozen.cut-off': {
    text: 'a stop that has to cut a sandbox off says that something may be lost, also when the engine is killed in the middle of it',
  },
  'frozen.thaws': {
    text: 'a sandbox that is frozen while its engine restarts is kept, and goes on when it is thawed',
  },
  'frozen.told': {
    text: 'the status of a workspace whose sandbox is frozen says that it does not answer, until it does',
  },
  'died.left': {
    text: 'a workspace whose sandbox is killed from outside is stopped, says so, and is left by start, snapshot, reset and delete',
  },
  'died.without-monitor': {
    text: 'a sandbox whose monitor is killed runs on, and its death is noticed all the same',
  },
  'died.before-it-ran': {
    text: 'a start whose monitor is killed fails at once, and the workspace is as before',
  },
  'died.without-engine': {
    text: 'a sandbox that dies while no engine runs is found dead, with the output of its commands',
  },
  'rebooted.left': {
    text: 'after a host reboot everything is listed within a second with its snapshots, and left by start, reset and delete',
  },
  'failed.create': {
    text: 'a create that fails or is cancelled at any step says where and leaves nothing, also when its undo fails',
  },
  'failed.start': {
    text: 'a start that fails or is cancelled at any step says where and leaves the workspace as it was',
  },
  'failed.snapshot': {
    text: 'a snapshot that fails or is cancelled at any step says where; what runs goes on and no snapshot is lost',
  },
  'failed.reset': {
    text: 'a reset that fails or is cancelled at any step says where; the workspace runs on, with its commands, as if nobody had asked',
  },
  'failed.stop-delete': {
    text: 'a stop or delete that fails leaves a failed workspace that says why and is left by start, reset or delete',
  },
  'failed.no-start': {
    text: 'a sandbox that does not start leaves its workspace as it was, which says so',
  },
  'failed.no-space': {
    text: 'a reset on a host without space leaves the workspace as it was, and works when there is room again',
    exempt: { qemu: HELD },
  },
  'concurrent.mixed': {
    text: 'two hundred operations at once over twenty workspaces leave each as a model says that replays the accepted ones',
  },
  'hostile.agent': {
    text: 'an agent that was replaced by a hostile one harms its own workspace alone, which a reset brings back',
  },
  'hostile.dial-ins': {
    text: 'whoever dials the channel from inside without the token disturbs nobody, not even its own workspace',
  },
  'restarted.output': {
    text: 'more output than a log keeps reaches its reader byte for byte, whenever engines die meanwhile',
  },
  'restarted.unread-output': {
    text: 'output that nobody reads while engines change is in the log from the first byte to the last',
  },
  'restarted.daemon': {
    text: 'a restart of the daemon loses nothing: commands, their callers, snapshots and disks go on',
  },
  'restarted.copied-home': {
    text: 'an engine on a copy of a home leaves the sandboxes of the original alone',
  },
  'leaks.forgotten-workspace': {
    text: 'of a workspace that the state has forgotten an audit finds everything, and releases it',
  },
  'leaks.none-in-use': {
    text: 'an audit finds no leak at a workspace in ordinary use, nor after the engine was killed under it',
  },
} as const satisfies Record<string, Requirement>

export type RequirementId = keyof typeof REQUIREMENTS
