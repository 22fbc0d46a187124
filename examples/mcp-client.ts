// What a coding agent does over MCP: create, run, snapshot, break, reset, look. Any MCP client can.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'

const project = mkdtempSync(join(tmpdir(), 'pyro-example-'))
writeFileSync(join(project, 'hello.sh'), 'echo hello\n')
const pyro = join(import.meta.dirname, '..', 'packages', 'cli', 'bin', 'pyro.js')
const client = new Client({ name: 'example', version: '1' })
try {
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [pyro, 'mcp', 'serve', '--project-path', project],
      env: Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, value ?? ''])),
    }),
  )
  const { tools } = await client.listTools()
  console.log(`tools: ${tools.map(({ name }) => name).join(' ')}`)

  const created = await call('workspace_create', { environment: 'debian:12-base', seed: '.' })
  const workspace = /ws-[a-z2-7]{12}/.exec(created)?.[0]
  await call('workspace_exec', { workspace, command: 'sh hello.sh' })
  await call('snapshot_create', { workspace, name: 'good' })
  await call('workspace_exec', { workspace, command: 'rm -rf /workspace/* /bin/ls' })
  await call('workspace_reset', { workspace, snapshot: 'good' })
  await call('workspace_exec', { workspace, command: ['ls'] })
  await call('workspace_diff', { workspace, root: '/' })
  await call('workspace_delete', { workspace })
} finally {
  await client.close()
  rmSync(project, { recursive: true })
}

/** Calls a tool and shows what a model would read. */
async function call(name: string, input: Record<string, unknown>): Promise<string> {
  const { content } = await client.callTool({ name, arguments: input })
  const text = content.map((part) => (part.type === 'text' ? part.text : '')).join('\n')
  console.log(`> ${name}\n${text}`)
  return text
}
