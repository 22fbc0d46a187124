import { agentPath, diskStoreSuite, temporaryPlace } from '@pyro/driver-testkit'

const agent = agentPath()

diskStoreSuite({
  name: 'btrfs in a pool file',
  place: () => temporaryPlace({ agentPath: agent, disk: 'btrfs' }),
  enforcesLimit: true,
  immutable: true,
})

diskStoreSuite({
  name: 'btrfs of the host',
  place: () => temporaryPlace({ agentPath: agent, disk: 'btrfs', onBtrfs: true }),
  enforcesLimit: false,
  immutable: true,
})

diskStoreSuite({
  name: 'copies',
  place: () => temporaryPlace({ agentPath: agent, disk: 'copy' }),
  enforcesLimit: false,
  immutable: { exempt: 'a plain folder cannot be made immutable; nothing of ours writes to it' },
})
