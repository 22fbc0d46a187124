import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

export const repositoryRoot = join(import.meta.dirname, '..', '..')

/** Larger files are data, not text anybody reads. */
const LARGEST_TEXT_BYTES = 2_000_000

export interface SourceFile {
  /** Relative to the repository, with `/`. */
  readonly path: string
  readonly text: string
}

/** One broken rule at one place. */
export interface Violation {
  readonly path: string
  /** 1-based; null when the whole file is meant. */
  readonly line: number | null
  readonly message: string
}

export interface Rule {
  readonly name: string
  readonly check: (files: readonly SourceFile[]) => readonly Violation[]
  /** Each of these sets of files must be caught: a rule that cannot fail protects nothing. */
  readonly caught: readonly (readonly SourceFile[])[]
  /** Each of these must pass: what the rule might mistake for a violation. */
  readonly allowed: readonly (readonly SourceFile[])[]
}

/** Everything git tracks or would add: what a commit of the present state would hold. */
export function repositoryFiles(): SourceFile[] {
  const names = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repositoryRoot,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  const files: SourceFile[] = []
  for (const path of new Set(names.split('\0'))) {
    const absolute = join(repositoryRoot, path)
    if (path === '' || !existsSync(absolute)) continue
    const status = statSync(absolute)
    if (!status.isFile() || status.size > LARGEST_TEXT_BYTES) continue
    const bytes = readFileSync(absolute)
    if (!bytes.includes(0)) files.push({ path, text: bytes.toString('utf8') })
  }
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

export function fixture(path: string, text: string): readonly SourceFile[] {
  return [{ path, text }]
}

/** Violations for every line of the chosen files that matches. */
export function matchLines(
  files: readonly SourceFile[],
  applies: (path: string) => boolean,
  pattern: RegExp,
  message: string,
): Violation[] {
  return files.filter((file) => applies(file.path)).flatMap((file) => matchText(file, pattern, message))
}

/** Violations for every match of a global pattern that may span lines. */
export function matchText(file: SourceFile, pattern: RegExp, message: string): Violation[] {
  const global = new RegExp(pattern.source, pattern.flags.includes('g') ? pattern.flags : `${pattern.flags}g`)
  return [...file.text.matchAll(global)].map((match) => ({
    path: file.path,
    line: file.text.slice(0, match.index).split('\n').length,
    message: `${message}: ${match[0].trim().split('\n')[0]?.slice(0, 100)}`,
  }))
}

/** The rules quote what they forbid; the generated and the foreign are not ours to style. */
export function isOwnCode(path: string): boolean {
  return /\.(ts|js|mjs|go)$/.test(path) && !path.startsWith('test/tidy/')
}

export function isTest(path: string): boolean {
  return /\.test\.ts$|_test\.go$|^test\/|^packages\/driver-testkit\//.test(path)
}
