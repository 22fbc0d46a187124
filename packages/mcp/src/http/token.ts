import { randomBytes, timingSafeEqual, createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isPyroError, PyroError } from '@pyro/protocol'
import { writeError } from '@pyro/sdk'

const TOKEN_BYTES = 32
const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/

/**
 * The bearer token kept in a file that only its owner can read; made when missing.
 *
 * @throws PyroError `input.invalid` for a file that is not safe or holds no token, `path.unreadable`, `path.unwritable`, `disk.full`
 */
export const tokenOf = async (file: string): Promise<string> => {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    return await makeToken(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw writeError(file, error)
  }
  return readToken(file)
}

const makeToken = async (file: string): Promise<string> => {
  await using made = await open(
    file,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  )
  const token = randomBytes(TOKEN_BYTES).toString('base64url')
  try {
    await made.writeFile(`${token}\n`)
  } catch (error) {
    await unlink(file)
    throw error
  }
  return token
}

const readToken = async (file: string): Promise<string> => {
  try {
    // A pipe would hold an open that waits.
    await using existing = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const stats = await existing.stat()
    if (!stats.isFile()) throw unsafe(file, 'is not a regular file', `remove ${file}; a new one is made`)
    if ((stats.mode & 0o077) !== 0) throw unsafe(file, 'can be read by others', `chmod 600 ${file}`)
    const token = (await existing.readFile('utf8')).trim()
    if (!TOKEN_PATTERN.test(token)) {
      throw unsafe(file, 'holds no token of this server', `remove ${file}; a new one is made`)
    }
    return token
  } catch (error) {
    if (isPyroError(error)) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ELOOP') throw unsafe(file, 'is a symbolic link', `remove ${file}; a new one is made`)
    throw new PyroError('path.unreadable', `${file} cannot be read (${code}); the server was not started`, {
      cause: error,
    })
  }
}

const unsafe = (file: string, why: string, hint: string): PyroError =>
  new PyroError('input.invalid', `the token file ${file} ${why}; it was not used`, { hint, data: { path: file } })

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** True when the header carries the token; takes the same time whatever it carries. */
export const authorized = (header: string | undefined, token: string): boolean =>
  timingSafeEqual(digest(header ?? ''), digest(`Bearer ${token}`))
