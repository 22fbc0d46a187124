import { execFile } from 'node:child_process'
import type { Workspace } from '@pyro/sdk'

/** A whole environment with names, hashes and attributes. */
const OUTPUT_BYTES = 256 * 1024 * 1024
const DEADLINE_MS = 120_000
/** Lines of difference that a failing test shows. */
const SHOWN = 40

/**
 * What is below a folder: one line an entry, by its path (bytes as latin1). Everything that lasts is in the line: type, mode, owners,
 * size, blocks, mtime to the nanosecond, link target, which names are one file, content, attributes.
 */
export type Listing = ReadonlyMap<string, string>

interface ListOptions {
  /** Paths below the folder that are left out with all they hold. */
  readonly without?: readonly string[]
}

/** The same script on the host and inside: `find` and `sha256sum`, never code of ours. */
const findScript = (without: readonly string[]): string => {
  const pruned = without.map((path) => `-path './${path}' -prune -o`).join(' ')
  return `set -e
cd "$1"
find . ${pruned} -printf '%P\\0%y %m %U:%G size=%s mtime=%T@ links=%n inode=%i blocks=%b target=%l\\0'
printf '\\0\\0'
find . ${pruned} -type f -print0 | xargs -0 -r sha256sum -z --`
}

/** Looks at a folder of this host. Extended attributes are included. */
export const listHost = async (folder: string, { without = [] }: ListOptions = {}): Promise<Listing> => {
  const [found, attributes] = await Promise.all([
    run('sh', ['-c', findScript(without), 'sh', folder]),
    run('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '.'], folder),
  ])
  return merge(found, { attributes: attributesOf(attributes), blocks: true })
}

/** Looks at a folder from inside. Blocks and attributes are the host's to see. */
export const listInside = async (
  ws: Workspace,
  folder: string,
  { without = [] }: ListOptions = {},
): Promise<Listing> => {
  const chunks: Uint8Array[] = []
  await ws.exec(['sh', '-c', findScript(without), 'sh', folder], {
    check: true,
    onStdoutBytes: (bytes) => void chunks.push(Buffer.from(bytes)),
  })
  return merge(Buffer.concat(chunks), { attributes: new Map(), blocks: false })
}

/** The lines that are in one of two listings alone, as a person would want to read them; empty when they agree. */
export const listingDifference = (before: Listing, after: Listing): readonly string[] => {
  const lines: string[] = []
  for (const [path, line] of before) if (after.get(path) !== line) lines.push(`- ${path}: ${line}`)
  for (const [path, line] of after) if (before.get(path) !== line) lines.push(`+ ${path}: ${line}`)
  return lines.length > SHOWN ? [...lines.slice(0, SHOWN), `and ${lines.length - SHOWN} more`] : lines
}

interface MergeOptions {
  readonly attributes: ReadonlyMap<string, string>
  /** False where a write that is still under way makes blocks a matter of the moment. */
  readonly blocks: boolean
}

const merge = (output: Buffer, { attributes, blocks }: MergeOptions): Listing => {
  const text = output.toString('latin1')
  const border = text.indexOf('\0\0\0')
  const fields = text.slice(0, border).split('\0')
  const hashes = new Map<string, string>()
  for (const line of text.slice(border + 3).split('\0')) {
    // sha256sum -z: digest, two spaces, the name as it is.
    if (line !== '') hashes.set(line.slice(66).replace(/^\.\//, ''), line.slice(0, 64))
  }
  const firstOfInode = new Map<string, string>()
  const entries = Array.from({ length: Math.floor(fields.length / 2) }, (_, at) => ({
    path: fields[at * 2] ?? '',
    line: fields[at * 2 + 1] ?? '',
  })).sort((a, b) => (a.path < b.path ? -1 : 1))
  return new Map(
    entries.map(({ path, line }) => {
      const inode = /inode=(\d+)/.exec(line)?.[1] ?? ''
      const isMany = !/^d|links=1 /.test(line)
      const first = isMany ? (firstOfInode.get(inode) ?? path) : ''
      if (isMany) firstOfInode.set(inode, first)
      const isFolder = line.startsWith('d')
      const shown = line
        .replace(/ inode=\d+/, isMany ? ` same-as=${first}` : '')
        // A folder's links and blocks are bookkeeping of its filesystem.
        .replace(isFolder ? / links=\d+/ : /$^/, '')
        .replace(isFolder || !blocks ? / blocks=\d+/ : /$^/, '')
      const rest = [hashes.get(path), attributes.get(path)].filter((part) => part !== undefined)
      return [path, [shown, ...rest].join(' ')]
    }),
  )
}

/** `# file: name`, then `name=value` lines, then an empty line; a name is octal-escaped where it has to be. */
const attributesOf = (output: Buffer): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (const block of output.toString('latin1').split('\n\n')) {
    const [head = '', ...lines] = block.split('\n').filter((line) => line !== '')
    if (!head.startsWith('# file: ')) continue
    const path = head
      .slice('# file: '.length)
      .replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
      .replace(/^\.\/?/, '')
    found.set(path, lines.sort().join(' '))
  }
  return found
}

const run = (file: string, args: readonly string[], cwd?: string): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const options = {
      encoding: 'buffer',
      maxBuffer: OUTPUT_BYTES,
      timeout: DEADLINE_MS,
      ...(cwd === undefined ? {} : { cwd }),
    } as const
    execFile(file, [...args], { ...options, env: { ...process.env, LC_ALL: 'C' } }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${file} ${args.join(' ')}: ${stderr.toString()}`, { cause: error }))
    })
  })
