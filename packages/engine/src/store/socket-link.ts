import { once } from 'node:events'
import { readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { basename, dirname, join } from 'node:path'

/** In the home, to the socket of the engine that has it: one with another runtime folder has no other way to know. */
const LINK = 'engine.sock'
const NOBODY = ['ENOENT', 'ECONNREFUSED']

/** By whoever holds the home. A link that is right already is left as it is: a full disk takes no other. */
export const linkSocket = (home: string, socket: string): void => {
  if (linked(home) === socket) return
  const next = join(home, `.${LINK}`)
  rmSync(next, { force: true })
  symlinkSync(socket, next)
  renameSync(next, join(home, LINK))
}

/** Where the engine that has this home listens, when that is not `socket`; null also while nobody listens there. */
export const socketElsewhere = async (home: string, socket: string): Promise<string | null> => {
  const found = linked(home)
  if (found === null || found === socket) return null
  // In a copy of another home, the link is to that home's engine.
  const isOfHome = basename(dirname(found)) === basename(dirname(socket))
  return isOfHome && (await isListening(found)) ? found : null
}

const linked = (home: string): string | null => {
  try {
    return readlinkSync(join(home, LINK))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

const isListening = async (path: string): Promise<boolean> => {
  const asking = connect(path)
  try {
    await once(asking, 'connect')
    return true
  } catch (error) {
    // Any other refusal, such as of a queue that is full, is somebody's.
    return !NOBODY.includes(String((error as NodeJS.ErrnoException).code))
  } finally {
    asking.destroy()
  }
}
