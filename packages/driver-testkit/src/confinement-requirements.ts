const NO_ISOLATION = 'made for tests: promises no isolation'
const NO_LIMITS = 'made for tests: has no limits'
/** Tested by `test/microvm/host-space.test.ts`. */
export const HELD = 'a machine that finds no room on the host is held until there is some: it never sees an error'
const OWN_KERNEL = 'root inside is root of a kernel of its own: what it does there it does to itself'
const SANDBOX_ENDS = 'the limits of memory and processes are walls of the whole gVisor sandbox: hitting one ends it'

/** Part of `REQUIREMENTS`: what stays inside, and what nobody can use up. Cited by the tests in `test/limits/` and `test/isolation/`. */
export const CONFINEMENT = {
  'limit.memory': {
    text: 'a command that uses up the memory is reported as such, and the workspace goes on or is started again on the same disk',
    exempt: { fake: NO_LIMITS },
  },
  'limit.memory-of-files': {
    text: 'files and segments that stay in memory leave enough for the commands that remove them',
    exempt: {
      fake: NO_LIMITS,
      runsc: 'memory of files is gVisor’s own and ends with the sandbox when all of it is used up',
    },
  },
  'limit.processes': {
    text: 'a fork bomb is reported as such, and the workspace goes on or is started again on the same disk',
    exempt: { fake: NO_LIMITS },
  },
  'limit.command-fails-alone': {
    text: 'a command that hits the limit of memory or processes fails alone: what else runs in the sandbox goes on',
    exempt: { fake: NO_LIMITS, runsc: SANDBOX_ENDS },
  },
  'limit.under-a-bomb': {
    text: 'while processes are used up, time-outs hold, and files, status, diff, export, snapshot and reset work',
    exempt: { fake: NO_LIMITS, runsc: SANDBOX_ENDS },
  },
  'limit.neighbours': {
    text: 'a workspace that uses up its memory and its processes is not noticed in another one',
    exempt: { fake: NO_LIMITS },
  },
  'limit.disk': {
    text: 'a full disk stops writing and nothing else: commands run, a file write is disk.full, and status, diff, export, snapshot and reset work',
  },
  'limit.disk-exact': {
    text: 'the disk limit is exact, and no other workspace has less because of it',
  },
  'limit.disk-snapshots': {
    text: 'the disk limit is for what is written since the last reset: what a snapshot keeps counts on until then, and not afterwards',
    exempt: { qemu: 'the disk of a machine has its size, whatever snapshots keep of it' },
  },
  'limit.disk-none': {
    text: 'where the disk limit cannot be enforced the record says so',
    exempt: { qemu: 'the disk of a machine has its size on every store' },
  },
  'limit.state-space': {
    text: 'on a host without any space workspaces are used, changed, stopped, started, reset, kept and deleted as ever',
  },
  'limit.state-unwritten': {
    text: 'an operation whose state finds no space is done, or leaves the workspace as it was; both are known at once',
  },
  'limit.host-space': {
    text: 'a host without space stops writing and nothing else: nothing becomes read-only, and all goes on when there is room again',
    exempt: { qemu: HELD },
  },
  'limit.shared-kernel': {
    text: 'nobody can use up what the kernel counts for all: another workspace and the host have as much as before',
    exempt: { fake: NO_LIMITS },
  },
  'limit.no-programs': {
    text: 'a workspace without a single program works: status, files, diff, export, snapshot, reset, stop and start',
  },
  'limit.kill-everything': {
    text: 'a sandbox in which everything is killed that can be killed goes on',
    exempt: { fake: NO_ISOLATION },
  },
  'limit.signals': {
    text: 'PID 1 survives every signal from inside, however it is sent',
    exempt: { fake: NO_ISOLATION },
  },
  'limit.init-closed': {
    text: 'PID 1 cannot be traced, read or limited from inside',
    exempt: { fake: NO_ISOLATION, qemu: OWN_KERNEL },
  },
  'isolation.escapes': {
    text: 'the ways out of a sandbox that are known are closed, each beside a control in which it is open',
    exempt: { fake: NO_ISOLATION, qemu: OWN_KERNEL },
  },
  'isolation.host-invisible': {
    text: 'nothing of the host is visible or writable from inside beyond what SECURITY.md says',
    exempt: { fake: NO_ISOLATION },
  },
  'isolation.unprivileged-outside': {
    text: 'root inside is nobody outside, and can be any user inside',
    exempt: { fake: NO_ISOLATION },
  },
  'isolation.neighbours': {
    text: 'workspaces see nothing of each other: no process, key, socket, segment or file',
    exempt: { fake: NO_ISOLATION },
  },
  'isolation.races': {
    text: 'links and renames that race against export, diff, push and file access never reach outside',
  },
} as const
