const NO_ELEVATION = 'gVisor ignores set-id bits and file capabilities when it runs a program; files keep them'

/** Part of `REQUIREMENTS`: what workspaces start from. Cited by the tests in `test/environments/`. */
export const ENVIRONMENTS = {
  'environment.image-honoured': {
    text: 'a command runs as the user, in the folder and with the variables that the image of its environment names',
  },
  'environment.working-folder-missing': {
    text: 'a working folder that an image names and does not hold is there all the same',
  },
  'environment.name-places': {
    text: 'a folder of an environment that stands where the names of a workspace go is no obstacle',
  },
  'environment.name-links': {
    text: 'the names of a workspace stand where /etc and the folder of dbus lead',
  },
  'environment.owners': { text: 'modes and owners of an environment are inside what its archive says' },
  'environment.set-id': {
    text: 'a set-id program of an environment works for a user who is not root',
    exempt: { runsc: NO_ELEVATION },
  },
  'environment.file-capability': {
    text: 'a file capability of an environment works for a user who is not root',
    exempt: { runsc: NO_ELEVATION },
  },
  'environment.catalog-set-id': {
    text: 'the set-id programs of the catalog work for a user who is not root',
    exempt: { runsc: NO_ELEVATION },
  },
  'environment.superseded': {
    text: 'workspaces and snapshots of a superseded environment work on, also after a prune of everything',
  },
  'environment.bare': {
    text: 'an environment without a shell gives a workspace that says so, and can be written to, compared and reset',
  },
} as const
