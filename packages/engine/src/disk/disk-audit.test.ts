import { describe, expect, test } from 'vitest'
import { parseMountinfo } from '../process/mountinfo.ts'
import { judgeMounts } from './disk-audit.ts'

const PLACES = { home: '/var/lib/pyro', runtimeDir: '/run/pyro/0123456789ab' }

const judge = (...points: string[]): unknown =>
  judgeMounts(
    parseMountinfo(points.map((point, id) => `${id} 1 0:${id} / ${point} rw shared:1 - tmpfs tmpfs rw`).join('\n')),
    PLACES,
  ).map(({ point, certain }) => [point, certain])

describe('of the mounts of a host', () => {
  test('those of others, the home itself and the one that shows the volumes are none of ours to release', () => {
    expect(judge('/', '/run', '/var/lib/pyro', '/run/pyro/0123456789ab/volumes', '/run/pyro/ffffffffffff/x')).toEqual(
      [],
    )
  })

  test('folders of the home may be on disks of their own', () => {
    expect(judge('/var/lib/pyro/environments', '/var/lib/pyro/volumes')).toEqual([])
  })

  test('what is mounted below the runtime folder or the temporary one is left over, the innermost first', () => {
    expect(judge('/run/pyro/0123456789ab/a', '/run/pyro/0123456789ab/a/b', '/var/lib/pyro/tmp/x')).toEqual([
      ['/var/lib/pyro/tmp/x', true],
      ['/run/pyro/0123456789ab/a/b', true],
      ['/run/pyro/0123456789ab/a', true],
    ])
  })

  test('what lies over or below the volumes, or elsewhere in the home, is not certain', () => {
    const volumes = '/run/pyro/0123456789ab/volumes'
    expect(judge(volumes, volumes, `${volumes}/ws-a.g1/mnt`, '/var/lib/pyro/commands/ws-a')).toEqual([
      ['/var/lib/pyro/commands/ws-a', false],
      [`${volumes}/ws-a.g1/mnt`, false],
      [volumes, false],
    ])
  })

  test('blanks in names are read as the kernel writes them', () => {
    const home = '/home/some body/pyro'
    const mounts = parseMountinfo('1 1 0:1 / /home/some\\040body/pyro/tmp/x rw - tmpfs none rw')
    expect(judgeMounts(mounts, { ...PLACES, home })).toEqual([{ point: `${home}/tmp/x`, type: 'tmpfs', certain: true }])
  })
})
