// Break a machine thoroughly, then go back to its start: the snapshot "baseline", which every workspace has.
import { Pyro } from '@pyro/sdk'

await using pyro = await Pyro.connect()
await using ws = await pyro.workspaces.create({
  environment: 'debian:12-base',
  seed: { path: import.meta.dirname },
})

await ws.exec(['sleep', '600'], { detach: true })
await ws.exec('rm -rf /workspace/* /usr/share/doc; echo broken > /etc/passwd; touch /tmp/junk; rm /bin/ls', {
  check: true,
})
const broken = await ws.diff({ root: '/', patch: false })
const { deleted, modified, added } = broken.result.totals
console.log(`in the whole machine ${deleted} paths are deleted, ${modified} modified, ${added} added`)

const { cleared } = await ws.reset()
console.log(`the reset ended ${cleared.runningCommands.map(({ command }) => command).join(', ')}`)

const files = await ws.exec('ls /workspace')
console.log(`back are ${files.stdout.trim().split('\n').join(', ')}`)
const after = await ws.diff({ root: '/', patch: false })
console.log(`differences from the start, anywhere: ${after.result.entries.length}`)
