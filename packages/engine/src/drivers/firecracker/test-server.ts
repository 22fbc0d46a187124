import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { z } from 'zod'

type State = 'Not started' | 'Running' | 'Paused'

/** When a request is allowed: while nothing is configured, before there is a machine, with one, with one that stands still. */
type When = 'fresh' | 'before' | 'after' | 'paused'

interface Rule {
  readonly body: z.ZodType
  readonly when: When
  /** What the body does to the machine; text: why it is refused. */
  readonly apply?: (machine: Machine, body: unknown) => string | null
}

interface Machine {
  state: State
  configured: boolean
  hasKernel: boolean
  /** By id, in order. */
  readonly drives: Map<string, string>
}

export interface SeenRequest {
  readonly method: string
  readonly path: string
  readonly body: unknown
}

const path = z.string().startsWith('/')
const id = z.string().regex(/^\w+$/)
const drive = z.strictObject({
  drive_id: id,
  partuuid: z.string().optional(),
  is_root_device: z.boolean(),
  cache_type: z.enum(['Unsafe', 'Writeback']).optional(),
  is_read_only: z.boolean(),
  path_on_host: path,
  io_engine: z.enum(['Sync', 'Async']).optional(),
})
const action = z.strictObject({ action_type: z.enum(['InstanceStart', 'FlushMetrics', 'SendCtrlAltDel']) })
const vm = z.strictObject({ state: z.enum(['Paused', 'Resumed']) })

/** The requests that the driver makes, as the published description (1.17) and the program's source have them. */
const RULES: Readonly<Record<string, Rule>> = {
  'PUT /machine-config': {
    when: 'before',
    body: z.strictObject({
      vcpu_count: z.int().min(1).max(32),
      mem_size_mib: z.int().positive(),
      smt: z.boolean().optional(),
      track_dirty_pages: z.boolean().optional(),
      huge_pages: z.enum(['None', 'Transparent', '2M']).optional(),
    }),
  },
  'PUT /boot-source': {
    when: 'before',
    body: z.strictObject({ kernel_image_path: path, initrd_path: path.optional(), boot_args: z.string().optional() }),
    apply: (machine) => ((machine.hasKernel = true), null),
  },
  'PUT /drives': {
    when: 'before',
    body: drive,
    apply: (machine, body) => {
      const { drive_id, path_on_host } = drive.parse(body)
      return (machine.drives.set(drive_id, path_on_host), null)
    },
  },
  'PUT /vsock': { when: 'before', body: z.strictObject({ guest_cid: z.int().min(3), uds_path: path }) },
  'PUT /actions': {
    when: 'before',
    body: action,
    apply: (machine) => {
      if (!machine.hasKernel) return 'no boot source'
      return ((machine.state = 'Running'), null)
    },
  },
  'PATCH /vm': {
    when: 'after',
    body: vm,
    apply: (machine, body) => ((machine.state = vm.parse(body).state === 'Paused' ? 'Paused' : 'Running'), null),
  },
  'PUT /snapshot/create': {
    when: 'paused',
    body: z.strictObject({
      snapshot_path: path,
      mem_file_path: path,
      snapshot_type: z.enum(['Full', 'Diff']).optional(),
    }),
  },
  'PUT /snapshot/load': {
    when: 'fresh',
    body: z.strictObject({
      snapshot_path: path,
      mem_backend: z.strictObject({ backend_type: z.enum(['File', 'Uffd']), backend_path: path }),
      track_dirty_pages: z.boolean().optional(),
      resume_vm: z.boolean().optional(),
    }),
    apply: (machine) => ((machine.state = 'Paused'), null),
  },
}

const BAD_REQUEST = 400

/** Firecracker's API without a machine: its schemas, and what it allows when. */
export class TestServer implements AsyncDisposable {
  /** In the order in which they came; descriptions are left out. */
  readonly seen: SeenRequest[] = []
  readonly machine: Machine = { state: 'Not started', configured: false, hasKernel: false, drives: new Map() }
  /** Answers instead of the rules, by `METHOD /path`. */
  readonly instead = new Map<string, (response: ServerResponse) => void>()
  readonly #server: Server

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#answer(request, response)
    })
  }

  static async listen(socketPath: string): Promise<TestServer> {
    const server = new TestServer()
    await new Promise<void>((resolve) => {
      server.#server.listen(socketPath, resolve)
    })
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request
    let text = ''
    for await (const chunk of request.setEncoding('utf8') as AsyncIterable<string>) text += chunk
    const body: unknown = text === '' ? null : JSON.parse(text)
    const instead = this.instead.get(`${method} ${url}`)
    if (method !== 'GET') this.seen.push({ method, path: url, body })
    if (instead !== undefined) {
      instead(response)
      return
    }
    if (method === 'GET' && url === '/') {
      const { state } = this.machine
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ id: 'test', state, vmm_version: '1.16.1', app_name: 'Firecracker' }))
      return
    }
    const fault = this.#apply(method, url, body)
    response.writeHead(fault === null ? 204 : BAD_REQUEST)
    response.end(fault === null ? undefined : JSON.stringify({ fault_message: fault }))
  }

  #apply(method: string, url: string, body: unknown): string | null {
    const driveId = /^\/drives\/(\w+)$/.exec(url)?.[1]
    const rule = RULES[`${method} ${driveId === undefined ? url : '/drives'}`]
    if (rule === undefined) return `no such request: ${method} ${url}`
    const parsed = rule.body.safeParse(body)
    if (!parsed.success) return `the body does not fit: ${z.prettifyError(parsed.error)}`
    if (driveId !== undefined && drive.parse(body).drive_id !== driveId) return 'the drive of the path is another one'
    const refusal = this.#refusalOf(rule.when) ?? rule.apply?.(this.machine, body) ?? null
    if (refusal === null && rule.when === 'before') this.machine.configured = true
    return refusal
  }

  #refusalOf(when: When): string | null {
    const { state, configured } = this.machine
    const hasMachine = state !== 'Not started'
    switch (when) {
      case 'fresh':
        return hasMachine || configured ? 'a snapshot is loaded by a fresh process alone' : null
      case 'before':
        return hasMachine ? 'not supported after the start' : null
      case 'after':
        return hasMachine ? null : 'not supported before the start'
      case 'paused':
        return state === 'Paused' ? null : 'not supported before the machine is paused'
    }
  }
}
