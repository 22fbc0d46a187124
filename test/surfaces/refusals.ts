import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { isErrorCode, type ErrorBody } from '@pyro/protocol'
import { socketOfHome } from '@pyro/sdk'
import type { McpHost } from '../mcp/mcp-host.ts'
import { until, type World } from '../support/world.ts'

/** An error as any surface gives it. `exit` where it was the command line, `status` where HTTP. */
export interface Refusal extends Pick<ErrorBody, 'code' | 'message' | 'hint'> {
  readonly exit?: number
  readonly status?: number
}

export const onCli = async (
  world: World,
  args: readonly string[],
  options: { readonly input?: Buffer; readonly cwd?: string } = {},
): Promise<Refusal> => {
  const { code: exit, stdout } = await world.cli(['--json', ...args], options)
  const { error } = JSON.parse(Buffer.from(stdout, 'latin1').toString()) as { error?: ErrorBody }
  if (error === undefined) throw new Error(`pyro ${args.join(' ')} was not refused: ${stdout.slice(0, 500)}`)
  return { ...error, exit }
}

export interface RawRequest {
  readonly method?: string
  readonly path: string
  readonly body?: string | Buffer
  readonly headers?: Readonly<Record<string, string>>
}

/** A request as anybody could write it to the socket. */
export const onHttp = async (world: World, raw: RawRequest): Promise<Refusal> => {
  const { method = 'POST', path, body = '', headers = { 'content-type': 'application/json' } } = raw
  const call = request({ socketPath: socketOfHome(world.home), method, path, headers: { host: 'pyro', ...headers } })
  // A server may answer and close before it has read all of a body that it refuses.
  call.on('error', () => undefined)
  call.end(body)
  const [response] = (await once(call, 'response')) as [AsyncIterable<Buffer> & { statusCode: number }]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  const { error } = JSON.parse(text) as { error?: ErrorBody }
  if (error === undefined) throw new Error(`${method} ${path} was not refused: ${text.slice(0, 500)}`)
  return { ...error, status: response.statusCode }
}

/** A call of a tool, as a model makes it. */
export const onMcp = async (host: McpHost, tool: string, input: Record<string, unknown>): Promise<Refusal> => {
  const { text, isError } = await host.call(tool, input)
  if (!isError) throw new Error(`${tool} was not refused: ${text}`)
  const [first = '', hint] = text.split('\nhint: ')
  const [, code = '', message = ''] = /^([a-z.-]+): ([^]*)$/.exec(first) ?? []
  if (!isErrorCode(code)) throw new Error(`${tool} was refused without a code: ${text}`)
  return { code, message, hint: hint ?? null }
}

/** Everything that a refused call must leave as it was. */
export const stateOf = async (world: World): Promise<object> => {
  const workspaces = await world.pyro.workspaces.list()
  const environments = await world.pyro.environments.list()
  const [hash = ''] = readdirSync(world.runtimeDir)
  return {
    workspaces: workspaces.map(({ lastActivityAt: _, diskBytes: _bytes, ...record }) => record),
    environments: environments.filter(({ installed }) => installed).map(({ name, digest }) => [name, digest]),
    volumes: readdirSync(join(world.runtimeDir, hash, 'volumes')).toSorted(),
    sandboxes: readdirSync(join(world.runtimeDir, hash, 'sandboxes')).toSorted(),
    temporary: readdirSync(join(world.home, 'tmp'), { recursive: true }).map(String).toSorted(),
  }
}

/** What a refused operation began is undone by the time it answers, or in the background soon after. */
export const untilAsBefore = async (world: World, before: object): Promise<object> => {
  let now: object = {}
  await until(async () => {
    now = await stateOf(world)
    return JSON.stringify(now) === JSON.stringify(before)
  }, 'the state to be as before').catch((error: unknown) => {
    // The comparison of the caller shows what differs.
    if (!(error instanceof Error)) throw error
  })
  return now
}
