import { describe, expect, test } from 'vitest'
import { makeWithKernel } from './failed-start.ts'

describe('what is made with a kernel and fails', () => {
  /** The kernels that were tried, the first of which is of no use, and what came of it. */
  const tried = async (options: { isDamaged: boolean; signal?: AbortSignal }): Promise<[string[], string]> => {
    const ids: string[] = []
    const kernels = {
      obtain: () => Promise.resolve({ id: `kernel ${ids.length}`, image: '', initramfs: '' }),
      doubt: () => Promise.resolve(options.isDamaged),
    }
    const made = makeWithKernel(kernels, { signal: options.signal ?? new AbortController().signal }, ({ id }) => {
      ids.push(id)
      return ids.length === 1 ? Promise.reject(new Error('it does not boot')) : Promise.resolve('made')
    })
    return [ids, await made.catch((error: unknown) => String(error))]
  }

  test('is made with another when that one was damaged', async () =>
    expect(await tried({ isDamaged: true })).toEqual([['kernel 0', 'kernel 1'], 'made']))
  test('is not tried again with a kernel that is whole', async () =>
    expect(await tried({ isDamaged: false })).toEqual([['kernel 0'], 'Error: it does not boot']))
  test('is not tried again when nobody waits any more', async () =>
    expect(await tried({ isDamaged: true, signal: AbortSignal.abort() })).toEqual([
      ['kernel 0'],
      'Error: it does not boot',
    ]))
})
