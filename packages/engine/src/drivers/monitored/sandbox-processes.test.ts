import { describe, expect, test } from 'vitest'
import { sandboxOfArguments, sandboxOfCgroup, sandboxOfMounts } from './sandbox-processes.ts'

const RUNTIME = '/run/pyro/0123456789ab'

describe('a process belongs to the sandbox', () => {
  test('of its control group, on both versions', () => {
    const v1 = '5:pids:/\n4:memory:/pyro/0123456789ab/ws-a-g2/user\n0::/\n'
    expect(sandboxOfCgroup(v1, RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfCgroup('0::/pyro/0123456789ab/ws-a-g2\n', RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfCgroup('0::/pyro/ffffffffffff/ws-a-g2\n', RUNTIME)).toBeNull()
    expect(sandboxOfCgroup('0::/pyro/0123456789ab\n', RUNTIME)).toBeNull()
  })

  test('whose channel it sees, also when the folder is gone', () => {
    const root = '/pyro/0123456789ab/sandboxes/ws-a-g2/channel'
    expect(sandboxOfMounts([{ root: '/' }, { root }], RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfMounts([{ root: `${root}//deleted` }], RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfMounts([{ root: '/pyro/0123456789ab/volumes/ws-a.g2' }], RUNTIME)).toBeNull()
  })

  test('that its arguments name, alone or as the value of an option', () => {
    const place = `${RUNTIME}/sandboxes/ws-a-g2`
    expect(sandboxOfArguments(['pyro-agent', 'monitor', `${place}/monitor.json`], RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfArguments(['runsc', `--root=${place}/runtime`], RUNTIME)).toBe('ws-a-g2')
    expect(sandboxOfArguments(['cat', `x${place}/monitor.json`], RUNTIME)).toBeNull()
    expect(sandboxOfArguments(['ls', `${RUNTIME}/sandboxes/`], RUNTIME)).toBeNull()
  })
})
