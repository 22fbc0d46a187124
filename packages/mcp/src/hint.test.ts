import { describe, expect, it } from 'vitest'
import type { McpProfile, OperationId } from '@pyro/protocol'
import { mcpHint } from './hint.ts'
import { toolSources } from './tool-list.ts'

const hintFor = (id: OperationId, hint: string, profile: McpProfile = 'core'): string | null => {
  const source = toolSources(profile).find((candidate) => candidate.id === id)
  if (source === undefined) throw new Error(`the profile ${profile} has no tool for ${id}`)
  return mcpHint(hint, source, profile)
}

describe('the hint of a tool', () => {
  it.each([
    ['workspace.exec', 'did you mean fix? pyro workspace list', 'did you mean fix? workspace_list'],
    ['workspace.exec', 'pyro workspace start fix, or pyro workspace reset fix', 'workspace_reset fix'],
    ['workspace.exec', 'pyro workspace status fix', 'workspace_list fix'],
    ['workspace.exec', 'wait again, or pyro workspace command kill fix CMD', 'wait again, or command_wait fix CMD'],
    ['workspace.exec', 'pyro workspace exec fix -- CMD', 'workspace_exec fix'],
    ['workspace.snapshot.create', 'use --replace, or another name', 'use replace, or another name'],
    [
      'workspace.export',
      'choose another --output, or --force to overwrite what the export brings',
      'choose another output, or force to overwrite what the export brings',
    ],
    [
      'workspace.diff',
      'compare a smaller folder with --root, or single paths with --path',
      'compare a smaller folder with root, or single paths with paths',
    ],
    [
      'workspace.file.read',
      'use --start-line and --max-lines, or --offset and --max-bytes',
      'use startLine and maxLines',
    ],
    [
      'workspace.file.read',
      'use --root / for a path anywhere in the machine',
      'an absolute path is anywhere in the machine',
    ],
  ] as const)('of %s has its words: %s', (id, hint, said) => {
    expect(hintFor(id, hint)).toBe(said)
  })

  it('that sends to the help of a command names the parameters', () => {
    const parameters = /^parameters: workspace \(required\), command \(required\), cwd, /
    expect(hintFor('workspace.exec', 'pyro workspace exec --help')).toMatch(parameters)
    expect(hintFor('workspace.exec', '--help lists what a command takes, docs/x.md every field')).toMatch(parameters)
  })

  it.each([
    [
      'workspace.create',
      'take another name, or use --if-absent; pyro workspace status fix',
      'take another name; workspace_list fix',
    ],
    ['workspace.sync.push', 'leave out what is not needed, e.g. with --seed-git', 'leave out what is not needed'],
    ['workspace.create', 'git init there, or seed with --seed-path', 'git init there'],
    ['workspace.create', 'leave one of --driver and --isolation out', null],
    ['workspace.snapshot.create', 'pyro workspace snapshot delete fix NAME', null],
  ] as const)('of %s leaves out what a model cannot do: %s', (id, hint, said) => {
    expect(hintFor(id, hint)).toBe(said)
  })

  it.each(['pyro doctor', 'pyro daemon logs', 'run it again; pyro doctor says what is missing', 'apt-get install git'])(
    'keeps what a person can do on the host: %s',
    (hint) => {
      expect(hintFor('workspace.create', hint)).toBe(hint)
    },
  )

  it('keeps the options of the server itself', () => {
    const hint = 'name a path in the project, or start the server with --allow-write PATH'
    expect(hintFor('workspace.export', hint)).toBe(hint)
  })

  it('names the tools of the profile, and no others', () => {
    expect(hintFor('workspace.exec', 'pyro workspace status fix', 'full')).toBe('workspace_status fix')
    expect(hintFor('run', 'pyro env list', 'full')).toBe('environment_list')
    expect(hintFor('run', 'run again, or pyro workspace list', 'run')).toBe('run again')
  })
})
