import { randomBytes, timingSafeEqual, createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PyroError } from '@pyro/protocol'

const TOKEN_BYTES = 32
const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/

/** The bearer token kept in a file that only its owner can read; made when missing. */
export const tokenOf = async (file: string): Promise<string> => {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  try {
    await using made = await open(
      file,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    )
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    await made.writeFile(`${token}\n`)
    return token
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return readToken(file)
  }
}

const readToken = async (file: string): Promise<string> => {
  await using existing = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW)
  const { mode } = await existing.stat()
  if ((mode & 0o077) !== 0) {
    throw new PyroError('input.invalid', `${file} can be read by others; it was not used`, {
      hint: `chmod 600 ${file}`,
    })
  }
  const token = (await existing.readFile('utf8')).trim()
  if (!TOKEN_PATTERN.test(token)) {
    throw new PyroError('input.invalid', `${file} holds no token of this server`, {
      hint: `remove ${file}; a new one is made`,
    })
  }
  return token
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** True when the header carries the token; takes the same time whatever it carries. */
export const authorized = (header: string | undefined, token: string): boolean =>
  timingSafeEqual(digest(header ?? ''), digest(`Bearer ${token}`))
