// Try two ideas from the same point: a snapshot keeps the whole disk, each reset starts again from there.
import { Pyro } from '@pyro/sdk'

await using pyro = await Pyro.connect()
await using ws = await pyro.workspaces.create({ environment: 'debian:12-base' })

await ws.files.write('words.txt', 'pear\napple\nfig\napple\n')
await ws.exec('mkdir -p /opt/tool && echo 1 > /opt/tool/version', { check: true })
await ws.snapshots.create('prepared')

const ideas = { sorted: 'sort -o words.txt words.txt', unique: 'sort -u -o words.txt words.txt' }
for (const [name, command] of Object.entries(ideas)) {
  await ws.exec(command, { check: true })
  await ws.snapshots.create(name)
  await ws.reset({ snapshot: 'prepared' })
}

for (const name of Object.keys(ideas)) {
  const { result } = await ws.diff({ from: 'prepared', to: name })
  console.log(`${name}: ${result.totals.additions} lines added, ${result.totals.deletions} removed`)
}

// The better one becomes the present state; its snapshot and the other one stay.
await ws.reset({ snapshot: 'unique' })
const words = await ws.files.read('words.txt')
console.log(`words: ${words.text.trim().split('\n').join(' ')}`)
const snapshots = await ws.snapshots.list()
console.log(`snapshots: ${snapshots.map(({ name }) => name).join(' ')}`)
