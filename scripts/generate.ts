/**
 * `npm run generate` writes everything that is derived from the contract; `npm run generate -- --check` writes nothing and
 * fails when a file is not what it would write.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { commands } from './generate/cli.ts'
import type { GeneratedFile } from './generate/generated-file.ts'
import { guestFixtures } from './generate/guest-fixtures.ts'
import { openapi } from './generate/openapi.ts'
import { parity } from './generate/parity.ts'
import { publicContract } from './generate/public-contract.ts'
import { routes } from './generate/routes.ts'
import { cliSpec, errors, mcpTools } from './generate/surfaces.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
/** Folders in which every file is ours: what is not generated any more goes. */
const OWNED_FOLDERS = ['spec', 'spec/guest']
/** Lines of difference shown for one stale file. */
const DIFFERENCE_LINES = 12

const generateAll = async (): Promise<readonly GeneratedFile[]> =>
  (
    await Promise.all([
      openapi(),
      mcpTools(),
      cliSpec(),
      errors(),
      publicContract(),
      guestFixtures(),
      parity(),
      routes(),
      commands(),
    ])
  ).flat()

const readOrNull = async (path: string): Promise<string | null> => {
  try {
    return await readFile(join(root, path), 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

/** The first lines that differ; enough to see what changed, never the whole file. */
const difference = (before: string, after: string): string => {
  const old = before.split('\n')
  const now = after.split('\n')
  const first = now.findIndex((line, index) => line !== old[index])
  const at = first === -1 ? now.length : first
  const shown = (lines: readonly string[], sign: string): string[] =>
    lines.slice(at, at + DIFFERENCE_LINES / 2).map((line) => `    ${sign} ${line}`)
  return [`    line ${at + 1}:`, ...shown(old, '-'), ...shown(now, '+')].join('\n')
}

const strayFiles = async (files: readonly GeneratedFile[]): Promise<readonly string[]> => {
  const expected = new Set(files.map(({ path }) => path))
  const strays: string[] = []
  for (const folder of OWNED_FOLDERS) {
    if (!existsSync(join(root, folder))) continue
    for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`
      if (entry.isFile() && !expected.has(path)) strays.push(path)
    }
  }
  return strays
}

const main = async (): Promise<number> => {
  const check = process.argv.includes('--check')
  const files = await generateAll()
  const strays = await strayFiles(files)
  let stale = 0
  for (const { path, text } of files) {
    const before = await readOrNull(path)
    if (before === text) continue
    stale += 1
    if (check) {
      process.stderr.write(`stale: ${path}\n${before === null ? '    does not exist' : difference(before, text)}\n`)
      continue
    }
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
    process.stderr.write(`wrote ${path}\n`)
  }
  for (const path of strays) {
    stale += 1
    if (!check) await rm(join(root, path))
    process.stderr.write(`${check ? 'stray' : 'removed'}: ${path}\n`)
  }
  if (check && stale > 0) {
    process.stderr.write(`${stale} of ${files.length} generated files are stale: npm run generate\n`)
    return 1
  }
  process.stderr.write(`${files.length} generated files are up to date\n`)
  return 0
}

process.exitCode = await main()
