import { describe, expect, test } from 'vitest'
import { configFrom, defaultHome, logLevel } from './config.ts'

const literally = (text: string): string => text.replaceAll(/\W/g, String.raw`\$&`)

const naming = (name: string, value: string): unknown =>
  expect.objectContaining({
    code: 'input.invalid',
    message: expect.stringMatching(new RegExp(`^${name} .*${literally(value)}.*; nothing was started$`)) as string,
    hint: expect.stringContaining(`set ${name} to `) as string,
    data: expect.objectContaining({ field: name }) as object,
  })

describe('a setting', () => {
  test.each([
    ['PYRO_POOL_STEP_MIB', '0'],
    ['PYRO_POOL_STEP_MIB', '0x10'],
    ['PYRO_POOL_STEP_MIB', '99999999999999999999'],
    ['PYRO_HOST_RESERVE_MIB', '-1'],
    ['PYRO_STATE_RESERVE_MIB', '1.5'],
    ['PYRO_ID_BASE', '0'],
    ['PYRO_ID_BASE', '2147483648'],
    ['PYRO_MACHINE_TEMPLATES', 'maybe'],
    ['PYRO_TEST_DRIVER', 'yes'],
    ['PYRO_DISK', 'zfs'],
    ['PYRO_LIMITS', '{'],
    ['PYRO_LIMITS', 'null'],
    ['PYRO_LIMITS', '[]'],
    ['PYRO_LIMITS', '{"snapshotsPerWorkspace":-1}'],
    ['PYRO_LIMITS', '{"nosuch":1}'],
    ['PYRO_GUEST_KERNEL', 'kernel.deb'],
    ['PYRO_KVM_DEVICE', 'kvm'],
    ['PYRO_ENVIRONMENT_CACHE', './cache'],
    ['PYRO_RUNTIME_DIR', 'run'],
    ['PYRO_RUNTIME_DIR', `/run/${'r'.repeat(40)}`],
  ])('%s is refused as %s, with what it may be', (name, value) => {
    // Of limits that are JSON, the one that is wrong is named.
    expect(() => configFrom({ [name]: value }, '/home')).toThrow(naming(name, value.startsWith('{"') ? '' : value))
  })

  test('of the log or the home is refused likewise', () => {
    expect(() => logLevel({ PYRO_LOG_LEVEL: 'loud' })).toThrow(naming('PYRO_LOG_LEVEL', 'loud'))
    expect(() => defaultHome({ PYRO_HOME: 'rel/home' }, 0)).toThrow(naming('PYRO_HOME', 'rel/home'))
  })

  test('that is valid is taken, and an empty one is none', () => {
    const empty = Object.fromEntries(
      ['PYRO_POOL_STEP_MIB', 'PYRO_LIMITS', 'PYRO_RUNTIME_DIR'].map((name) => [name, '']),
    )
    expect(configFrom(empty, '/home')).toEqual(configFrom({}, '/home'))
    const longest = `/run/${'r'.repeat(39)}`
    expect(
      configFrom(
        { PYRO_POOL_STEP_MIB: '1', PYRO_MACHINE_TEMPLATES: '0', PYRO_RUNTIME_DIR: `${longest}//`, PYRO_DISK: 'copy' },
        '/home',
      ),
    ).toMatchObject({
      poolStepBytes: 1024 * 1024,
      machineTemplates: false,
      runtimeDir: expect.stringContaining(`${longest}/`) as string,
      disk: 'copy',
    })
    expect([logLevel({}), logLevel({ PYRO_LOG_LEVEL: 'debug' })]).toEqual(['info', 'debug'])
  })
})
