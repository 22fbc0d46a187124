// The story with its default engine, on the folder given: what the check of the published packages runs from an empty folder.
import { argv } from 'node:process'
import { Pyro } from '@pyro/sdk'
import { tellStory } from './story.ts'

const project = argv[2]
if (project === undefined) throw new Error('usage: main.ts PROJECT')
await using pyro = await Pyro.connect()
await tellStory(pyro, { project, print: (line) => process.stdout.write(`${line}\n`) })
