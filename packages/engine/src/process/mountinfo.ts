import { readFile } from 'node:fs/promises'

/** One line of /proc/PID/mountinfo: `id parent major:minor root point options [tags…] - type source superOptions`. */
export interface MountLine {
  /** Of the mounted filesystem, the folder that is seen at `point`. */
  readonly root: string
  readonly point: string
  /** Of the mount alone: `ro`, `noexec` and the like. */
  readonly options: readonly string[]
  readonly type: string
  /** A device for most filesystems. */
  readonly source: string
  readonly superOptions: readonly string[]
}

/** Of this process, in the order of mounting. */
export const readMounts = async (): Promise<MountLine[]> =>
  parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))

export function parseMountinfo(text: string): MountLine[] {
  return text.split('\n').flatMap((line): MountLine[] => {
    const [before = '', after] = line.split(' - ')
    const [, , , root, point, options] = before.split(' ')
    const [type, source, superOptions] = (after ?? '').split(' ')
    if (root === undefined || point === undefined || options === undefined) return []
    if (type === undefined || source === undefined || superOptions === undefined) return []
    return [
      {
        root: unescape(root),
        point: unescape(point),
        options: options.split(','),
        type,
        source: unescape(source),
        superOptions: superOptions.split(','),
      },
    ]
  })
}

/** The kernel writes blanks and backslashes of paths as `\040` and the like. */
const unescape = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/** The mount that a path lies on. */
export const mountOf = async (path: string): Promise<MountLine | null> => {
  const above = (await readMounts()).filter(({ point }) => point === '/' || `${path}/`.startsWith(`${point}/`))
  // The longest, and of several at one place the last, which hides the others.
  return above.reduce<MountLine | null>(
    (best, mount) => (best === null || mount.point.length >= best.point.length ? mount : best),
    null,
  )
}
