import type { InstallClient, InstallScope } from '@pyro/mcp'
import { usageError } from '../../args/usage-error.ts'
import { nearest } from '../../args/nearest.ts'
import type { Command } from '../command.ts'

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
  const installed = await install({ client, print, scope: args.input['scope'] as InstallScope | undefined })
  if (terminal.json) terminal.document(installed)
  else if (print) {
    await terminal.data(installed.text)
    terminal.talk(`${installed.path} would hold this`)
  } else {
    terminal.line(`${installed.outcome === 'unchanged' ? 'stands already in' : 'written to'} ${installed.path}`)
    if (installed.backup !== null) terminal.talk(`the file before is kept as ${installed.backup}`)
  }
  return 0
}
