/**
 * Which part may import which: a new edge is a decision, made here, with its reason. Parts are packages (`sdk`) and, inside the
 * engine, its folders (`engine/disk`). Every part may import itself.
 */
export const layers: Readonly<Record<string, { readonly imports: readonly string[]; readonly reason: string }>> = {
  protocol: { imports: [], reason: 'the contract: data only' },
  sdk: { imports: ['protocol'], reason: 'a client: never the engine, which it starts as a process' },
  mcp: { imports: ['protocol', 'sdk'], reason: 'a client, through the SDK' },
  cli: {
    imports: ['protocol', 'sdk', 'mcp'],
    reason: 'a client, through the SDK; `pyro mcp serve` hosts the MCP server',
  },
  'driver-testkit': { imports: ['protocol', 'engine'], reason: 'tests the seams of the engine' },

  'engine/lib': { imports: ['protocol'], reason: 'no knowledge of Pyro beyond its errors and limits' },
  'engine/process': { imports: ['protocol', 'engine/lib'], reason: 'starts and ends host programs' },
  'engine/store': { imports: ['protocol', 'engine/lib', 'engine/process'], reason: 'state.db' },
  'engine/agent': { imports: ['protocol', 'engine/lib', 'engine/process'], reason: 'the link to a guest' },
  'engine/disk': { imports: ['protocol', 'engine/lib', 'engine/process'], reason: 'volumes' },
  'engine/driver': {
    imports: ['protocol', 'engine/lib', 'engine/process', 'engine/store', 'engine/agent', 'engine/disk'],
    reason: 'the seam: types that name what disks and agents are',
  },
  'engine/drivers': {
    imports: [
      'protocol',
      'engine/lib',
      'engine/process',
      'engine/store',
      'engine/agent',
      'engine/disk',
      'engine/driver',
    ],
    reason: 'implementations of the seam; they know nothing of workspaces',
  },
  'engine/offline': { imports: belowDomain(), reason: 'works on volumes that no sandbox runs on' },
  ...domain(['snapshot', 'diff', 'environment', 'network', 'secret']),
  'engine/workspace': {
    imports: [
      ...belowDomain(),
      'engine/offline',
      'engine/snapshot',
      'engine/diff',
      'engine/environment',
      'engine/network',
      'engine/secret',
    ],
    reason: 'the actor: puts the parts of a workspace together',
  },
  'engine/daemon': {
    imports: [
      ...belowDomain(),
      'engine/offline',
      'engine/snapshot',
      'engine/diff',
      'engine/environment',
      'engine/network',
      'engine/secret',
      'engine/workspace',
    ],
    reason: 'HTTP, start, stop, doctor',
  },
}

/** The composition root and the package root may see everything inside the engine. */
export const engineRoots: readonly string[] = ['packages/engine/src/main.ts', 'packages/engine/src/index.ts']

/** Built-in modules a part may import; absent = any. */
export const builtins: Readonly<Record<string, readonly string[]>> = {
  // The contract has no I/O: it must load in every client and in a browser-like runtime.
  protocol: ['node:buffer'],
}

function belowDomain(): string[] {
  return ['protocol', 'engine/lib', 'engine/process', 'engine/store', 'engine/agent', 'engine/disk', 'engine/driver']
}

function domain(names: readonly string[]): Record<string, { imports: string[]; reason: string }> {
  return Object.fromEntries(
    names.map((name) => [
      `engine/${name}`,
      { imports: [...belowDomain(), 'engine/offline'], reason: 'one concern of a workspace, apart from the others' },
    ]),
  )
}
