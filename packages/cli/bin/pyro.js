#!/usr/bin/env node
// Plain JavaScript that any Node can parse: finds Node >= 24, then loads the command.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import * as nodeModule from 'node:module'
import { constants, homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const REQUIRED_MAJOR = 24
const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..')

/** The Node that npm installed beside us (optional dependency node-linux-*), looked for upwards like npm does. */
function bundledNode() {
  for (let folder = packageRoot; ; folder = dirname(folder)) {
    for (const place of ['.bin', join(`node-linux-${process.arch}`, 'bin')]) {
      const candidate = join(folder, 'node_modules', place, 'node')
      if (existsSync(candidate)) return candidate
    }
    if (dirname(folder) === folder) return null
  }
}

/** The user's own: Node's default, below /tmp, could be filled by anybody. */
function compiledFolder() {
  if (process.getuid?.() === 0) return '/var/cache/pyro/compiled'
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pyro', 'compiled')
}

if (Number(process.versions.node.split('.')[0]) >= REQUIRED_MAJOR) {
  nodeModule.enableCompileCache(compiledFolder())
  const source = join(packageRoot, 'src', 'main.ts')
  await import(existsSync(source) ? source : join(packageRoot, 'dist', 'main.js'))
} else {
  const node = process.env.PYRO_NODE_REEXEC === '1' ? null : bundledNode()
  if (node === null) {
    process.stderr.write(
      `pyro needs Node ${REQUIRED_MAJOR} or newer; this is ${process.version} (${process.execPath}).\n` +
        `Install it, for example: npm install -g node-linux-${process.arch}@${REQUIRED_MAJOR}\n`,
    )
    process.exit(6)
  }
  const result = spawnSync(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, PYRO_NODE_REEXEC: '1' },
  })
  if (result.error) throw result.error
  process.exit(result.status ?? 128 + (constants.signals[result.signal] ?? 0))
}
