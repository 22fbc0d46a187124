import assert from 'node:assert/strict'
import { test } from 'vitest'
import { Releases } from './releases.ts'

const recorded = () => {
  const told: (readonly string[])[] = []
  const releases = new Releases((ids) => {
    told.push(ids)
    return Promise.resolve()
  })
  return { told, releases }
}

test('commands that end one after the other are released with one message', async () => {
  const { told, releases } = recorded()
  await Promise.all(['a', 'b', 'c'].map((id) => releases.add(id, 10)))
  await releases.add('d', 0)
  assert.deepEqual(told, [['a', 'b', 'c'], ['d']])
})

test('much output is not kept for those that may follow', async () => {
  const { told, releases } = recorded()
  const first = releases.add('a', 200_000)
  assert.deepEqual(told, [])
  const second = releases.add('b', 200_000)
  assert.deepEqual(told, [['a', 'b']])
  await Promise.all([first, second, releases.add('c', 1)])
  assert.deepEqual(told, [['a', 'b'], ['c']])
})

test('who could not be released hears why, and the next ones are tried again', async () => {
  const failures = [new Error('no link')]
  const releases = new Releases(() => {
    const failure = failures.shift()
    return failure === undefined ? Promise.resolve() : Promise.reject(failure)
  })
  const both = await Promise.allSettled([releases.add('a', 0), releases.add('b', 0)])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  await releases.add('c', 0)
})
