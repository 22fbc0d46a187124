import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { buildAgents, findGo, staleAgents } from './agent.mjs'

let root: string

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pyro-agent-test-'))
  write('guest/go.mod', 'module example.org/agent\n\ngo 1.24\n')
  write('guest/cmd/agent/main.go', 'package main\n\nfunc main() {}\n')
})

afterEach(() => {
  rmSync(root, { recursive: true, force: true })
})

const stale = (goVersion: string): string[] => staleAgents(root, ['x64', 'arm64'], goVersion).stale

test('an agent is built once, again when its sources or the tool-chain change, and not for a changed test', async () => {
  const go = findGo()
  expect(stale(go.version)).toEqual(['x64', 'arm64'])
  await buildAgents(root, { go: go.path, ...staleAgents(root, ['x64'], go.version) })
  expect(stale(go.version)).toEqual(['arm64'])

  write('guest/cmd/agent/main_test.go', 'package main\n')
  expect(stale(go.version)).toEqual(['arm64'])
  expect(stale('go9.9')).toEqual(['x64', 'arm64'])
  write('guest/cmd/agent/main.go', 'package main\n\nfunc main() { println() }\n')
  expect(stale(go.version)).toEqual(['x64', 'arm64'])
}, 120_000)

test('the same sources give the same bytes wherever they lie', async () => {
  const go = findGo()
  const agent = (): Buffer => readFileSync(join(root, 'packages/engine/agent/linux-x64/pyro-agent'))
  await buildAgents(root, { go: go.path, ...staleAgents(root, ['x64'], go.version) })
  const first = agent()
  const moved = `${root}-moved`
  renameSync(root, moved)
  root = moved
  rmSync(join(root, 'packages'), { recursive: true })
  await buildAgents(root, { go: go.path, ...staleAgents(root, ['x64'], go.version) })
  expect(agent().equals(first)).toBe(true)
}, 120_000)
