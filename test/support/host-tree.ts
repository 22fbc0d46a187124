import { execFile } from 'node:child_process'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Listing } from './lister.ts'

const run = promisify(execFile)
const OUTPUT_BYTES = 64 * 1024 * 1024

/** A folder of the host that goes with its case. */
export class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'pyro-case-'))

  /** A path in it. */
  at(...parts: string[]): string {
    return join(this.path, ...parts)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

/** `folder/name`, where the name is bytes written as latin1. */
const rawPath = (folder: string, name: string): Buffer =>
  Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, 'latin1')])

/** Writes one of everything that a project may hold. */
export const makeProject = (folder: string): void => {
  const at = (name: string): string => join(folder, name)
  for (const name of [
    'src/deep/er',
    'empty/also-empty',
    'sp ace',
    'x'.repeat(100),
    `x`.repeat(100) + '/' + 'y'.repeat(200),
  ]) {
    mkdirSync(at(name), { recursive: true })
  }
  writeFileSync(at('README.md'), '# Project\n')
  writeFileSync(at('no-newline'), 'no newline at the end')
  writeFileSync(at('empty-file'), '')
  writeFileSync(at('src/run.sh'), '#!/bin/sh\necho run\n', { mode: 0o755 })
  writeFileSync(at('src/secret'), 'x\n', { mode: 0o600 })
  writeFileSync(at('src/read-only'), 'x\n', { mode: 0o444 })
  writeFileSync(at('src/deep/er/binary'), binary(70_000))
  // Near the sizes at which buffers fill up.
  for (const size of [511, 512, 513, 65_531, 65_536, 1_048_575]) writeFileSync(at(`src/deep/${size}`), binary(size))
  writeFileSync(at('sp ace/two  spaces "quoted" \'too\''), 'x\n')
  writeFileSync(at('übung – ☃'), 'UTF-8\n')
  writeFileSync(rawPath(folder, 'latin-\xe4\xff'), 'not UTF-8\n')
  writeFileSync(at('new\nline\tand\\backslash'), 'x\n')
  writeFileSync(at(`${'x'.repeat(100)}/${'y'.repeat(200)}/deep`), 'deep\n')
  writeFileSync(at('sparse'), '')
  truncateSync(at('sparse'), 3_000_000)
  linkSync(at('README.md'), at('src/hard'))
  symlinkSync('../README.md', at('src/soft'))
  symlinkSync('nowhere', at('dangling'))
  symlinkSync('src', at('folder-link'))
  utimesSync(at('no-newline'), 1_000_000_000, 1_000_000_000)
  utimesSync(at('src/deep'), 1_100_000_000, 1_100_000_000)
  chmodSync(at('empty'), 0o700)
}

/** Bytes that no text holds, the same each time. */
export const binary = (size: number): Buffer => Buffer.from(Array.from({ length: size }, (_, at) => (at * 7919) & 0xff))

/**
 * A listing as it is after a transfer: owned by `owner`, with times in whole seconds and without set-id bits and sizes of
 * folders, which are bookkeeping. The folder itself is left out.
 */
export const transferred = (listing: Listing, owner: string): Listing =>
  new Map(
    [...listing]
      .filter(([path]) => path !== '')
      .map(([path, line]) => [
        path,
        line
          .replace(/^(\S) [0-7]*?([0-7]{1,3}) \d+:\d+ /, `$1 $2 ${owner} `)
          .replace(/(mtime=\d+)\.\d+/, '$1')
          .replace(/ blocks=\d+/, '')
          .replace(/^(d .*) size=\d+/, '$1'),
      ]),
  )

export const git = async (folder: string, ...args: string[]): Promise<string> => {
  const settings = [
    '-c',
    'user.name=t',
    '-c',
    'user.email=t@example.org',
    '-c',
    'protocol.file.allow=always',
    '-c',
    'init.defaultBranch=main',
  ]
  const { stdout } = await run('git', [...settings, ...args], {
    cwd: folder,
    maxBuffer: OUTPUT_BYTES,
    env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null' },
  })
  return stdout
}
