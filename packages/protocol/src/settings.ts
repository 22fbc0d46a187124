import { PyroError } from './errors.ts'

/** Variables of a process, such as `process.env`. */
export type Variables = Readonly<Record<string, string | undefined>>

/**
 * Bytes of `PYRO_RUNTIME_DIR`. The address of a unix socket has 107 at most, and the longest one below is
 * `<12>/sandboxes/<26>/vmm/api.sock`.
 */
export const RUNTIME_DIR_BYTES = 44
const RUNTIME_DIR = '/run/pyro'

/** Null when it is unset or empty: taken for a path, it would be the folder somebody happens to be in. */
export const setting = (env: Variables, name: string): string | null => env[name] || null

/**
 * Of a setting that names a path. An engine does not run in the folder of whoever starts it.
 *
 * @throws PyroError `input.invalid` for a relative one
 */
export const absolutePath = (env: Variables, name: string): string | null => {
  const path = setting(env, name)
  if (path === null || path.startsWith('/')) return path
  throw invalidSetting(name, `is not an absolute path: ${path}`, 'a path that begins with /')
}

/**
 * Where volatile things of every home live, sockets among them.
 *
 * @throws PyroError `input.invalid` for one that is relative, or too long for sockets
 */
export const runtimeRoot = (env: Variables): string => {
  const path = (absolutePath(env, 'PYRO_RUNTIME_DIR') ?? RUNTIME_DIR).replace(/(?<=.)\/+$/, '')
  const bytes = new TextEncoder().encode(path).byteLength
  if (bytes <= RUNTIME_DIR_BYTES) return path
  const what = `has ${bytes} bytes, at most ${RUNTIME_DIR_BYTES}, so that the sockets below it have room: ${path}`
  throw invalidSetting('PYRO_RUNTIME_DIR', what, 'a shorter path', { bytes, max: RUNTIME_DIR_BYTES })
}

/** A variable whose value is none of those that it may have. */
export const invalidSetting = (
  name: string,
  what: string,
  wanted: string,
  data: Readonly<Record<string, unknown>> = {},
): PyroError =>
  new PyroError('input.invalid', `${name} ${what}; nothing was started`, {
    hint: `set ${name} to ${wanted}, or unset it`,
    data: { field: name, ...data },
  })
