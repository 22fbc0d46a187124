import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeOutput } from '@pyro/sdk'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

let folder = ''
let path = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pyro-output-'))
  path = join(folder, 'out')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const never = new AbortController().signal
const write = (text: string | Uint8Array, to = path, signal = never): Promise<void> =>
  writeOutput(to, Buffer.from(text), signal)

describe('a file of the user', () => {
  it('is made as any program would make it', async () => {
    await write('new')
    expect(readFileSync(path, 'utf8')).toBe('new')
    expect(statSync(path).mode & 0o777).toBe(0o666 & ~process.umask())
    expect(readdirSync(folder)).toEqual(['out'])
  })

  it('is replaced, and keeps its mode and owner', async () => {
    writeFileSync(path, 'much longer than before')
    chmodSync(path, 0o640)
    chownSync(path, 12, 34)
    await write('new')
    expect(readFileSync(path, 'utf8')).toBe('new')
    expect(statSync(path)).toMatchObject({ uid: 12, gid: 34 })
    expect(statSync(path).mode & 0o777).toBe(0o640)
    expect(readdirSync(folder)).toEqual(['out'])
  })

  it('that is a link is written through, also to what is not there yet', async () => {
    symlinkSync('target', path)
    for (const text of ['first', 'second']) {
      await write(text)
      expect(readFileSync(join(folder, 'target'), 'utf8')).toBe(text)
    }
    expect(lstatSync(path).isSymbolicLink()).toBe(true)
  })

  it('that is mounted alone is written over', async () => {
    const source = join(folder, 'source')
    writeFileSync(source, 'old')
    writeFileSync(path, '')
    execFileSync('mount', ['--bind', source, path])
    try {
      await write('new')
    } finally {
      execFileSync('umount', [path])
    }
    expect(readFileSync(source, 'utf8')).toBe('new')
    expect(readdirSync(folder)).toEqual(['out', 'source'])
  })

  it('is no folder, and lies in one', async () => {
    mkdirSync(path)
    await expect(write('x')).rejects.toMatchObject({ code: 'path.not-a-file' })
    await expect(write('x', join(folder, 'nosuch', 'out'))).rejects.toMatchObject({
      code: 'path.not-found',
      hint: `mkdir -p ${join(folder, 'nosuch')}`,
    })
  })

  it('on a full disk is not made, and one that is there stays as it is', async () => {
    const full = join(folder, 'full')
    mkdirSync(full)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', full])
    try {
      const kept = join(full, 'kept')
      writeFileSync(kept, 'kept')
      for (const target of [kept, join(full, 'new')]) {
        await expect(write(Buffer.alloc(1024 * 1024), target)).rejects.toMatchObject({
          code: 'disk.full',
          message: `no space left on this host for ${target}; nothing was written`,
        })
      }
      expect(readdirSync(full)).toEqual(['kept'])
      expect(readFileSync(kept, 'utf8')).toBe('kept')
    } finally {
      execFileSync('umount', [full])
    }
  })
})

describe('a device', () => {
  it('is written to, and stays what it is', async () => {
    // The numbers of /dev/full.
    execFileSync('mknod', [path, 'c', '1', '7'])
    await expect(write('x')).rejects.toMatchObject({
      code: 'disk.full',
      message: `no space left on this host for ${path}; what was written is not whole`,
    })
    expect(lstatSync(path).isCharacterDevice()).toBe(true)
    expect(readdirSync(folder)).toEqual(['out'])
  })
})

describe('a pipe', () => {
  const content = Buffer.alloc(1024 * 1024, 'content ')
  beforeEach(() => execFileSync('mkfifo', [path]))

  it('is written to when its reader comes', async () => {
    const writing = write(content)
    const reader = spawn('wc', ['-c', path])
    let said = ''
    reader.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await Promise.all([writing, once(reader, 'close')])
    expect(said).toContain(String(content.length))
    expect(lstatSync(path).isFIFO()).toBe(true)
  })

  it('that nobody reads is waited for until the caller cancels', async () => {
    await expect(write(content, path, AbortSignal.timeout(200))).rejects.toMatchObject({
      code: 'request.cancelled',
      message: expect.stringContaining('nothing was written'),
    })
  })

  it('whose reader stops is left when the caller cancels', async () => {
    const reader = spawn('sh', ['-c', 'exec sleep 60 < "$1"', 'sh', path])
    try {
      await expect(write(content, path, AbortSignal.timeout(500))).rejects.toMatchObject({ code: 'request.cancelled' })
    } finally {
      reader.kill('SIGKILL')
      await once(reader, 'close')
    }
  })
})
