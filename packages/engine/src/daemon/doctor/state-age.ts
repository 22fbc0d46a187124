import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../process/identity.ts'

/**
 * True for what is older than the state of its home: a state that was lost and began anew cannot say that nobody needs it. A clone
 * shows the age of what it was cloned from, which errs towards keeping.
 */
export const predatesState = async (home: string, path: string): Promise<boolean> => {
  const [state, thing] = await Promise.all([bornMs(join(home, 'state.db')), bornMs(path)])
  return state !== null && thing !== null && thing < state
}

const bornMs = async (path: string): Promise<number | null> => {
  try {
    return (await lstat(path)).birthtimeMs
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}
