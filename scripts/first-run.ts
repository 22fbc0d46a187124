// `npm run first-run`: types the lines of docs/first-run.md on this host, in a home of its own, and writes the document.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pyro } from '@pyro/sdk'
import { tellFirstRun } from './first-run/tell.ts'
import { formatted } from './generate/generated-file.ts'

const root = join(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'pyro-first-run-'))
const runtimeDir = mkdtempSync('/run/pyro-first-run-')
chmodSync(runtimeDir, 0o711)
const env = {
  ...process.env,
  PYRO_HOME: join(folder, 'state'),
  PYRO_RUNTIME_DIR: runtimeDir,
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
  for (const made of [folder, runtimeDir]) rmSync(made, { recursive: true, force: true })
}
