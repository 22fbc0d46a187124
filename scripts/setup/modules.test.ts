import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bundledNodeIsLinked, linkBundledNode, modulesAreCurrent } from './modules.mjs'

const locked = {
  '': { name: 'x' },
  'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
  'node_modules/a-win32': { version: '1.0.0', integrity: 'sha512-w', optional: true },
  'packages/b': { version: '0.1.0' },
  'node_modules/b': { resolved: 'packages/b', link: true },
}

let root: string

function write(path: string, content: unknown): void {
  mkdirSync(join(root, path, '..'), { recursive: true })
  writeFileSync(join(root, path), JSON.stringify(content))
}

function install(packages: Record<string, object>): void {
  write('node_modules/.package-lock.json', { packages })
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pyro-modules-test-'))
  write('package-lock.json', { packages: locked })
})

afterEach(() => {
  rmSync(root, { recursive: true, force: true })
})

test('no node_modules is not current', () => {
  expect(modulesAreCurrent(root)).toBe(false)
})

test('what npm installed on this platform is current, without the packages of other platforms', () => {
  const { 'node_modules/a-win32': _elsewhere, ...here } = locked
  install(here)
  expect(modulesAreCurrent(root)).toBe(true)
})

test('another version, another checksum or a missing package is not current', () => {
  for (const changed of [
    { ...locked, 'node_modules/a': { version: '1.0.1', integrity: 'sha512-a' } },
    { ...locked, 'node_modules/a': { version: '1.0.0', integrity: 'sha512-other' } },
    { 'node_modules/b': locked['node_modules/b'] },
  ]) {
    install(changed)
    expect(modulesAreCurrent(root)).toBe(false)
  }
})

test('a Node that npm installed without linking it is linked', () => {
  expect(bundledNodeIsLinked(root)).toBe(true)
  write(`node_modules/node-linux-${process.arch}/bin/node`, 'the program')
  expect(bundledNodeIsLinked(root)).toBe(false)
  linkBundledNode(root)
  expect(bundledNodeIsLinked(root)).toBe(true)
  expect(readFileSync(join(root, 'node_modules/.bin/node'), 'utf8')).toContain('the program')
})
