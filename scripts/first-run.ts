// `npm run first-run`: types the lines of docs/first-run.md on this host, in a home of its own, and writes the document.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pyro } from '@pyro/sdk'
import { HostRun } from '../test/support/host-run.ts'
import { tellFirstRun } from './first-run/tell.ts'
import { formatted } from './generate/generated-file.ts'

const root = join(import.meta.dirname, '..')
using run = await HostRun.begin()
const folder = mkdtempSync(join(tmpdir(), 'pyro-first-run-'))
const env = {
  ...process.env,
  PYRO_HOME: join(folder, 'state'),
  PYRO_RUNTIME_DIR: run.runtimeDir,
  PYRO_ENVIRONMENT_CACHE: join(root, 'node_modules', '.cache', 'pyro-environments'),
}
try {
  const document = await formatted('docs/first-run.md', await tellFirstRun({ folder, env }), 'markdown')
  writeFileSync(join(root, document.path), document.text)
  process.stdout.write(`wrote ${document.path}\n`)
} finally {
  Object.assign(process.env, env)
  await using pyro = Pyro.open({ start: false })
  await pyro.engine.shutdown({ workspaces: true })
}
