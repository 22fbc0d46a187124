import { accessSync, constants, realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { InstallClient, InstallOptions, InstallScope } from '@pyro/mcp'
import { usageError } from '../../args/usage-error.ts'
import { nearest } from '../../args/nearest.ts'
import { escapeControls } from '../../render/escape.ts'
import type { Command } from '../command.ts'

/** npm and npx put this on the PATH of what they start, and of nothing else. */
const NPM_BIN = /(?:^|\/)node_modules\/\.bin\/?$/

export const command: Command = async ({ args, terminal }) => {
  const { install, INSTALL_CLIENTS } = await import('@pyro/mcp')
  const named = String(args.input['client'])
  const client: InstallClient | undefined = INSTALL_CLIENTS.find((candidate) => candidate === named)
  if (client === undefined) {
    const similar = nearest(named, INSTALL_CLIENTS)
    throw usageError(
      `pyro cannot be installed into ${JSON.stringify(named)}`,
      similar === null ? `one of ${INSTALL_CLIENTS.join(', ')}` : `did you mean: pyro mcp install ${similar}`,
    )
  }
  const print = args.input['print'] === true
  const scope = args.input['scope'] as InstallScope | undefined
  const isFound = isOnPath()
  const server = isFound || scope === 'project' ? undefined : thisProgram()
  const installed = await install({ client, print, scope, server })
  if (terminal.json) terminal.document(installed)
  else if (print) {
    await terminal.data(installed.text)
    terminal.talk(`${installed.path} would hold this`)
  } else {
    terminal.line(
      `${installed.outcome === 'unchanged' ? 'stands already in' : 'written to'} ${escapeControls(installed.path)}`,
    )
    if (installed.backup !== null) terminal.talk(`the file before is kept as ${installed.backup}`)
  }
  if (!isFound && scope === 'project')
    terminal.talk('warning: pyro is not on the PATH here; whoever uses the file needs it')
  return 0
}

/** True when a program that an agent's host starts finds `pyro`, too. */
const isOnPath = (): boolean =>
  (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '' && !NPM_BIN.test(folder))
    .some((folder) => isExecutable(join(folder, 'pyro')))

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code)
    if (!['ENOENT', 'EACCES', 'ENOTDIR'].includes(code)) throw error
    return false
  }
}

/** Where it is not installed, as in a checkout, this very program is named. */
const thisProgram = (): InstallOptions['server'] => ({
  command: process.execPath,
  args: [realpathSync(process.argv[1] ?? ''), 'mcp', 'serve'],
})
