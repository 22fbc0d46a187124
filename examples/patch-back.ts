// Work on a copy of a repository and bring the change back as a patch, although the repository has moved on meanwhile.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pyro } from '@pyro/sdk'

const repository = mkdtempSync(join(tmpdir(), 'pyro-example-'))
try {
  writeFileSync(join(repository, 'shopping.txt'), 'milk\nbread\napples\npears\nfigs\n')
  writeFileSync(join(repository, '.gitignore'), 'cache/\n')
  git('init', '--quiet')
  git('add', '--all')
  git('-c', 'user.name=Example', '-c', 'user.email=e@example.org', 'commit', '--quiet', '--message', 'Begin')

  await using pyro = await Pyro.connect()
  await using ws = await pyro.workspaces.create({ environment: 'debian:12-base', seed: { git: repository } })
  await ws.exec(`sed -i s/figs/dates/ shopping.txt; echo note > new.txt; mkdir cache; echo x > cache/big`, {
    check: true,
  })

  // Somebody edits the same file here while the workspace works.
  writeFileSync(join(repository, 'shopping.txt'), 'oat milk\nbread\napples\npears\nfigs\n')
  git('-c', 'user.name=Example', '-c', 'user.email=e@example.org', 'commit', '--quiet', '--all', '--message', 'Oats')

  const { patch, result } = await ws.diff()
  console.log(
    `the patch changes ${result.entries.map(({ path }) => path).join(', ')}; ignored: ${result.totals.ignored}`,
  )
  execFileSync('git', ['apply', '--3way'], { cwd: repository, input: patch, stdio: ['pipe', 'inherit', 'ignore'] })
  console.log(`merged: ${readFileSync(join(repository, 'shopping.txt'), 'utf8').trim().split('\n').join(', ')}`)
  console.log(`status: ${git('status', '--short').trim().split('\n').join(', ')}`)
} finally {
  rmSync(repository, { recursive: true })
}

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: repository, encoding: 'utf8' })
}
