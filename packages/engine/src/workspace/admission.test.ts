import { PyroError } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { Admission, type HostMemory } from './admission.ts'

const host = (availableMib: number) => (): Promise<HostMemory> => Promise.resolve({ availableMib, totalMib: 4096 })

describe('memory of the host', () => {
  test('is promised until the sandbox runs, or does not', async () => {
    const admission = new Admission(host(1000), 0)
    const { signal } = new AbortController()
    {
      using _first = await admission.admit(600, signal)
      await expect(admission.admit(600, signal)).rejects.toMatchObject({ code: 'limit.exceeded' })
    }
    using second = await admission.admit(600, signal)
    expect(second).toBeDefined()
  })

  test('is waited for until the caller cancels, who hears that alone', async () => {
    const waiting = new AbortController()
    const cancelled = new PyroError('request.cancelled', 'workspace.create was cancelled by the caller')
    const admitted = new Admission(host(0)).admit(600, waiting.signal)
    waiting.abort(cancelled)
    await expect(admitted).rejects.toBe(cancelled)
  })

  test('that it never had is not waited for', async () => {
    await expect(new Admission(host(4096)).refuseTooLarge(5000)).rejects.toMatchObject({
      code: 'limit.exceeded',
      message: expect.stringContaining('4096'),
    })
  })
})
