// Upgrade a package, find that it does not work, keep what it did for a look, and go back to the machine before.
import { Pyro, type Workspace } from '@pyro/sdk'

await using pyro = await Pyro.connect()
await using ws = await pyro.workspaces.create({ environment: 'debian:12-base' })

await buildPackage(ws, '1.0', 'echo "greeter 1.0"')
await buildPackage(ws, '2.0', 'echo "greeter 2.0 needs libgreet" >&2; exit 1')
await ws.exec('dpkg -i /tmp/greeter-1.0.deb', { check: true })
await ws.snapshots.create('works')

await ws.exec('dpkg -i /tmp/greeter-2.0.deb', { check: true })
const tried = await ws.exec(['greeter'])
console.log(`after the upgrade: exit ${tried.exitCode}, ${tried.stderr.trim()}`)

if (tried.exitCode !== 0) await ws.reset({ snapshot: 'works', saveAs: 'upgraded' })
const back = await ws.exec(['greeter'])
console.log(`after the reset: exit ${back.exitCode}, ${back.stdout.trim()}`)

const { result } = await ws.diff({ from: 'works', to: 'upgraded', root: '/usr/bin' })
console.log(`what the upgrade had done to /usr/bin:\n${result.patch}`)

/** A package with one program, made inside: a workspace has no network, so packages come with the files. */
async function buildPackage(workspace: Workspace, version: string, script: string): Promise<void> {
  const control = `Package: greeter\nVersion: ${version}\nArchitecture: all\nMaintainer: Example <e@example.org>\nDescription: says hello\n`
  await workspace.exec('mkdir -p /tmp/pkg/DEBIAN /tmp/pkg/usr/bin', { check: true })
  await workspace.files.write('tmp/pkg/DEBIAN/control', control, { root: '/' })
  await workspace.files.write('tmp/pkg/usr/bin/greeter', `#!/bin/sh\n${script}\n`, { root: '/', mode: '0755' })
  await workspace.exec(`dpkg-deb --build /tmp/pkg /tmp/greeter-${version}.deb`, { check: true })
}
