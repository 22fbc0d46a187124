// `npm run quickstart [-- PATH]`: the whole story on this host, on the files of PATH (default: this checkout).
import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isPyroError, Pyro } from '@pyro/sdk'
import { tellStory } from './story/story.ts'
import { seconds } from './story/timing.ts'

const root = join(import.meta.dirname, '..')
const USAGE_EXIT_CODE = 2

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function projectFolder(): string {
  // npm runs scripts in the root of the checkout; a relative path means the folder the user is in.
  const given = process.argv[2]
  const folder = given === undefined ? root : resolve(process.env['INIT_CWD'] ?? process.cwd(), given)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    process.stderr.write(`${folder} is not a folder; nothing was done\n`)
    process.exit(USAGE_EXIT_CODE)
  }
  return folder
}

async function main(): Promise<void> {
  const project = projectFolder()
  await using pyro = await Pyro.connect()
  const story = await tellStory(pyro, { project, print })
  const setUpMs = Number(process.env['PYRO_SETUP_MS'] ?? 0)
  const downloadMs = story.downloadMs + Number(process.env['PYRO_SETUP_DOWNLOAD_MS'] ?? 0)
  print('')
  print(
    `Done in ${seconds(story.totalMs + setUpMs)}, of which ${seconds(downloadMs)} downloading. Go on in this folder:`,
  )
  print('  npx pyro workspace create debian:12 --name fix --seed-git .   a workspace with these files')
  print('  npx pyro workspace exec fix -- python3 --version               run something in it')
  print('  npx pyro workspace snapshot create fix before                  before a risky step')
  print('  npx pyro workspace reset fix --snapshot before                 instead of repairing')
  print('  npx pyro workspace diff fix | git apply --3way                 take the change over')
  print('  npx pyro --help; npx pyro workspace delete fix                 everything else; and the end')
}

try {
  await main()
} catch (error) {
  if (!isPyroError(error)) throw error
  process.stderr.write(`${error.code}: ${error.message}\n${error.hint === null ? '' : `${error.hint}\n`}`)
  process.exitCode = 1
}
