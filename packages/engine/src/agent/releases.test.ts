import assert from 'node:assert/strict'
import { test } from 'vitest'
import { Releases } from './releases.ts'

test('commands that end one after the other are released with one message', async () => {
  const told: (readonly string[])[] = []
  const releases = new Releases((ids) => {
    told.push(ids)
    return Promise.resolve()
  })
  await Promise.all(['a', 'b', 'c'].map((id) => releases.add(id)))
  await releases.add('d')
  assert.deepEqual(told, [['a', 'b', 'c'], ['d']])
})

test('who could not be released hears why, and the next ones are tried again', async () => {
  const failures = [new Error('no link')]
  const releases = new Releases(() => {
    const failure = failures.shift()
    return failure === undefined ? Promise.resolve() : Promise.reject(failure)
  })
  const both = await Promise.allSettled([releases.add('a'), releases.add('b')])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  await releases.add('c')
})
