/** Part of `REQUIREMENTS`: ordinary work, and the way back. Cited by the tests in `test/e2e/`. */
export const EVERYDAY = {
  'reset.snapshot-exact': {
    text: 'a reset to a snapshot restores exactly what an independent lister saw when it was taken',
  },
  'reset.baseline-new-machine': {
    text: 'a reset to the baseline gives a new sandbox with the same identity, an empty history and an empty diff',
  },
  'reset.snapshot-can-be-gone-back-to-again': {
    text: 'any snapshot can be gone back to any number of times, in any order',
  },
  'reset.stopped-workspace': { text: 'a reset of a stopped workspace leaves it running' },
  'reset.failed-workspace': { text: 'a reset of a failed workspace, whose disk is gone, makes it usable again' },
  'reset.save-as': { text: 'a reset can keep the present state as a snapshot, and refuses when it cannot' },
  'reset.queued': { text: 'two resets at once run one after the other' },
  'reset.interrupts-commands': {
    text: 'a command that runs during a reset ends with command.interrupted, which names it',
  },
  'exec.argv-and-text': { text: 'a list of words is run exactly as it is, a text by a login shell' },
  'exec.folder-user-variables': {
    text: 'a command has the folder, user and variables that were asked for, and HOME, USER, LANG and PATH when not',
  },
  'exec.stdin': { text: 'standard input is what the caller gives, as it comes, and empty otherwise' },
  'exec.exit-codes': {
    text: 'exit codes are those of a shell: the own one, 128+N for a signal, 126 cannot run, 127 not found',
  },
  'exec.timeout': { text: 'a timeout ends the whole tree of a command and keeps what it printed' },
  'exec.signals': { text: 'signals reach a running command' },
  'exec.cancel': { text: 'a caller that cancels ends the whole tree of its command' },
  'exec.background-child': {
    text: 'a command ends with its main process; what it leaves behind runs on and is never cut off by its output',
  },
  'exec.set-uid': {
    text: 'set-id programs work inside, as sudo has to',
    exempt: { runsc: 'gVisor ignores set-id bits when it runs a program (google/gvisor issue 5299); files keep them' },
  },
  'exec.command-line': { text: 'pyro workspace exec gives output, input and exit code through as they are' },
  'command.detached': { text: 'a detached command goes on by itself and is found, followed and waited for by its id' },
  'command.list': { text: 'the commands since the last reset are listed in order, with what became of them' },
  'command.kill': { text: 'kill asks the tree of a command to end and then ends it; other signals only arrive' },
  'command.output-order': { text: 'output and errors arrive, and are kept, in the order they were printed' },
  'command.output-bytes': { text: 'output is bytes: nothing is lost, and text is never cut inside a character' },
  'command.output-truncated': { text: 'a result carries head and tail of long output, the log all of it' },
  'command.log-limit': { text: 'beyond 64 MiB the log keeps the beginning and says how much it has not' },
} as const
