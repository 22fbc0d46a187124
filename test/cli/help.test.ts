import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isAbsent, LOCAL_COMMANDS, OPERATIONS, type CliFacet, type Operation } from '@pyro/protocol'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { savedImage } from '../support/oci-image.ts'
import { tarOf } from '../support/tar.ts'
import { World } from '../support/world.ts'
import { runLine } from './shell.ts'

const operations: readonly Operation[] = Object.values(OPERATIONS)
const facets: readonly CliFacet[] = [
  ...operations.flatMap(({ cli }) => (isAbsent(cli) ? [] : [cli])),
  ...LOCAL_COMMANDS.map(({ cli }) => cli),
]
const commands = facets.map(({ words }) => words.join(' '))
const groups = [
  ...new Set(facets.flatMap(({ words }) => words.slice(0, -1).map((_, at) => words.slice(0, at + 1).join(' ')))),
]

/** The lines of the contract, and those with which `pyro --help` begins. */
const EXAMPLES = [...new Set(facets.flatMap(({ examples }) => examples.map(({ line }) => line)))]
const START = [
  'pyro workspace create debian:12 --name fix --seed-git .',
  'pyro workspace exec fix -- python3 -m unittest',
  'pyro workspace snapshot create fix green',
  'pyro workspace reset fix --snapshot green',
  'pyro workspace diff fix | git apply --3way',
]

const LONG_FILE = Array.from({ length: 80 }, (_, index) => `line_${index + 1} = ${index + 1}\n`).join('')
const TEST_FILE = `import unittest


class Addition(unittest.TestCase):
    def test_adds(self):
        self.assertEqual(1 + 1, 2)
`

let world: World
/** Where the lines are typed; made anew for each. */
let project: string
beforeAll(async () => {
  world = await World.open()
  const template = join(world.folder, 'template')
  project = join(world.folder, 'project')
  mkdirSync(join(template, 'src'), { recursive: true })
  writeFileSync(join(template, 'src', 'main.py'), LONG_FILE)
  writeFileSync(join(template, 'test_addition.py'), TEST_FILE)
  const git = (...args: string[]): Buffer => execFileSync('git', args, { cwd: template })
  git('init', '--quiet')
  git('add', '.')
  git('-c', 'user.name=T', '-c', 'user.email=t@example.org', 'commit', '--quiet', '--message', 'Begin')
  writeFileSync(join(template, 'rootfs.tar'), tarOf([{ name: 'bin/tool', mode: 0o755, content: 'x' }]))
  await world.pyro.environments.pull('debian:12')
})
afterAll(() => world[Symbol.asyncDispose]())

const helpOf = async (words: string): Promise<string> => {
  const { code, stdout, stderr } = await world.cli([...words.split(' ').filter((word) => word !== ''), '--help'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return Buffer.from(stdout, 'latin1').toString()
}

/** The generated file that reviewers read, by the words of the command. */
const GOLDEN = new Map(
  readFileSync(new URL('../../spec/help.txt', import.meta.url), 'utf8')
    .split(/^\$ (?=pyro)/m)
    .slice(1)
    .map((section) => {
      const [head = '', ...lines] = section.split('\n')
      return [head.replace(/^pyro ?|\s*--help$/g, ''), lines.join('\n').trim()] as const
    }),
)

/** Lines of a help that a reader may type. */
const examplesIn = (help: string): readonly string[] => {
  const sections = help.split(/^(?=\S)/m).filter((section) => /^(?:Examples|Start with):/.test(section))
  return sections.flatMap((section) => [...section.matchAll(/^ {2}(\S.*)$/gm)].map(([, line = '']) => line))
}

describe('--help', () => {
  test.each(['', ...groups])('of "pyro %s" names every command below it and shows only tested lines', async (words) => {
    const help = await helpOf(words)
    for (const command of commands.filter((known) => `${known} `.startsWith(words === '' ? '' : `${words} `))) {
      expect(help).toMatch(new RegExp(`^  ${command}( |$)`, 'm'))
    }
    expect(help.trim()).toBe(GOLDEN.get(words))
    const examples = examplesIn(help)
    expect(examples.length).toBeGreaterThan(0)
    expect([...EXAMPLES, ...START]).toEqual(expect.arrayContaining([...examples]))
  })

  test.each(commands)('of "pyro %s" is as in spec/help.txt and shows an example', async (words) => {
    const help = await helpOf(words)
    expect(help.trim()).toBe(GOLDEN.get(words))
    const examples = examplesIn(help)
    expect(examples.length).toBeGreaterThan(0)
    expect(EXAMPLES).toEqual(expect.arrayContaining([...examples]))
  })
})

/** The workspace `fix`, as it was created. */
const freshFix = async (): Promise<Workspace> => {
  const seed = { git: project }
  const fix = await world.pyro.workspaces.create({
    environment: 'debian:12',
    name: 'fix',
    ifAbsent: true,
    keep: true,
    seed,
  })
  for (const { name, kind } of await fix.snapshots.list()) if (kind === 'named') await fix.snapshots.delete(name)
  await fix.reset()
  return fix
}

interface Arrangement {
  readonly when: RegExp
  /** Gives the line with the names that this run has. */
  readonly arrange: (line: string) => Promise<string>
}

/** What a line takes for granted. All that match are arranged, in this order. */
const ARRANGEMENTS: readonly Arrangement[] = [
  {
    when: /\bfix\b/,
    arrange: async (line) => {
      if (line.includes('workspace create')) await world.pyro.workspaces.delete(['fix'], { ifExists: true })
      else await freshFix()
      return line
    },
  },
  {
    when: /(?: inspect| delete|--snapshot) (?:fix )?green/,
    arrange: async (line) => {
      await (await world.pyro.workspaces.get('fix')).snapshots.create('green')
      return line
    },
  },
  {
    when: /workspace (?:diff|export|logs)/,
    arrange: async (line) => {
      const fix = await world.pyro.workspaces.get('fix')
      await fix.exec('mkdir dist && echo built > dist/out && echo "# changed" >> src/main.py', { check: true })
      return line
    },
  },
  {
    when: /cmd-abcdefghijkl/,
    arrange: async (line) => {
      const fix = await world.pyro.workspaces.get('fix')
      const { commandId } = await fix.exec(['sleep', line.includes('kill') ? '600' : '1'], { detach: true })
      return line.replace('cmd-abcdefghijkl', commandId)
    },
  },
  {
    when: /\bmine:1\b/,
    arrange: async (line) => {
      const tar = join(project, 'rootfs.tar')
      if (line.includes('remove')) await world.pyro.environments.import('mine:1', tar, { replace: true })
      return line
    },
  },
  {
    // Whether a Docker runs here is not the question.
    when: /docker save/,
    arrange: (line) => {
      const image = join(project, 'image.tar')
      writeFileSync(image, savedImage([{ name: 'srv/app', content: 'x' }]))
      return Promise.resolve(`docker() { cat ${image}; }; ${line}`)
    },
  },
  {
    // A test does not write into the configuration of its host.
    when: /> \/etc\//,
    arrange: (line) => {
      mkdirSync(join(world.folder, 'etc', 'bash_completion.d'), { recursive: true })
      return Promise.resolve(line.replace('> /etc/', `> ${join(world.folder, 'etc')}/`))
    },
  },
  {
    // Where zsh itself is not at hand, its completion system is not either.
    when: /completion zsh/,
    arrange: (line) => Promise.resolve(`compdef() { :; }; ${line}`),
  },
]

describe('the example', () => {
  test.each([...new Set([...EXAMPLES, ...START])])('%s', async (example) => {
    rmSync(project, { recursive: true, force: true })
    cpSync(join(world.folder, 'template'), project, { recursive: true })
    // The copies have other inodes than the index knows.
    execFileSync('git', ['status'], { cwd: project })
    let line = example
    for (const { when, arrange } of ARRANGEMENTS) if (when.test(example)) line = await arrange(line)
    const { code, stderr } = await runLine(world, `set -o pipefail; ${line}`, { cwd: project })
    expect({ code, stderr: stderr.includes('error') ? stderr : '' }).toEqual({ code: 0, stderr: '' })
  })
})
