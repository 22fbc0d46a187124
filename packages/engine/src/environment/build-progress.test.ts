import assert from 'node:assert/strict'
import type { Progress } from '@pyro/protocol'
import { test } from 'vitest'
import { BuildProgress } from './build-progress.ts'

const OUTPUT = [
  'I: running apt-get update...\nGet:1 http://m.example/debian bookworm InRelease [151 kB]\n',
  'I: downloading packages with apt...\n0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\nNeed to get 3000 kB/4000 kB of archives.\n',
  'Get:1 http://m.example/debian bookworm/main amd64 bash amd64 5.2 [1,500 kB]\nGet:2 http://m.example/debian boo',
  'kworm/main amd64 sed amd64 4.9 [1.5 MB]\n',
  'I: installing essential packages...\nSetting up bash (5.2) ...\nSetting up sed (4.9) ...\n',
  'I: creating tarball...\n',
]

test('the output of a build is told as steps with their share done, however it is cut into pieces', async () => {
  const told: Progress[] = []
  const progress = new BuildProgress('x:1', (one) => told.push(one))
  for (const piece of OUTPUT) {
    progress.push(piece)
    await new Promise((resolve) => setTimeout(resolve, 220))
  }
  assert.deepEqual(
    [...new Set(told.map(({ step }) => step))],
    ['reading package lists for x:1', 'fetching packages for x:1', 'installing packages of x:1', 'packing x:1'],
  )
  const fetching = told.findLast(({ unit }) => unit === 'bytes')
  assert.deepEqual([fetching?.done, fetching?.total], [3_000_000, 3_000_000])
  assert.equal(progress.lastError(), null)
})

test('the first error is kept, and a line without end takes no memory', () => {
  const progress = new BuildProgress('x:1', () => undefined)
  progress.push('x'.repeat(10_000_000))
  progress.push('\nE: Unable to locate package nosuch\nE: second\n')
  assert.equal(progress.lastError(), 'Unable to locate package nosuch')
})

test('a download that failed is told with its reason', () => {
  const progress = new BuildProgress('x:1', () => undefined)
  progress.push('Err:1 http://m.example/debian x InRelease\n  Could not connect to m.example:80\n')
  assert.equal(progress.lastError(), 'http://m.example/debian x InRelease')
  progress.push('E: Failed to fetch http://m.example/debian  Could not connect to m.example:80\nE: setup failed\n')
  assert.equal(progress.lastError(), 'Failed to fetch http://m.example/debian  Could not connect to m.example:80')
})
