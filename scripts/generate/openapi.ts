import {
  CONNECTION_HEADER,
  errorBody,
  ERRORS,
  FRAME,
  FRAMES_CONTENT_TYPE,
  isAbsent,
  KEEP_CONNECTION,
  LIMITS,
  NDJSON_CONTENT_TYPE,
  UPGRADE_PROTOCOL,
  OPERATIONS,
  REQUEST_ID_HEADER,
  STARTED_HEADER,
  VERSION_HEADER,
  type ErrorCode,
  type HttpFacet,
  type Operation,
} from '@pyro/protocol'
import { jsonFile, packageVersion, type GeneratedFile } from './generated-file.ts'
import { inputSchema, outputSchema, propertiesOf, type JsonSchema } from './json-schema.ts'

/** Codes that any operation can answer, beside its own. */
export const COMMON_ERRORS = [
  'input.invalid',
  'request.cancelled',
  'engine.unreachable',
  'engine.version-mismatch',
  'internal',
] as const satisfies readonly ErrorCode[]

const JSON_TYPE = 'application/json'

const FRAMES_TEXT = [
  `\`${FRAMES_CONTENT_TYPE}\` is a sequence of frames: one byte type, four bytes big-endian payload length, payload.`,
  `Types: ${Object.entries(FRAME)
    .map(([name, type]) => `${name} 0x${type.toString(16).padStart(2, '0')}`)
    .join(', ')}.`,
  'A request sends `input` (JSON) first, then `data` and `stdin` frames; an empty one ends that stream; `control` frames carry signals while the call runs.',
  'A response carries `event` (JSON), `stdout`, `stderr` and `data` frames, then exactly one `result` or `error` (JSON) as the last frame. A response that ends without one was cut off.',
  `A client that accepts \`${NDJSON_CONTENT_TYPE}\` gets the same frames as JSON documents, one a line: \`{"frame":"stdout","base64":"…"}\` for bytes, \`{"frame":"result","value":…}\` for JSON. A request without bytes beside its JSON may be sent as \`${JSON_TYPE}\`.`,
  `A streaming call with \`Connection: upgrade\` and \`Upgrade: ${UPGRADE_PROTOCOL}\` is answered with \`101\` and speaks the same frames both ways on the bare connection, \`input\` right behind the head of the request: with much output it costs a client half as much. What is refused before the first frame is answered as HTTP. Closing the connection, or one half of it, leaves the call.`,
  `With \`${CONNECTION_HEADER}: ${KEEP_CONNECTION}\` beside it, which the answer repeats, the connection takes another call when the answer is complete: \`head\` (\`{"operation":"workspace.exec","${REQUEST_ID_HEADER}":"…"}\`), then \`input\` with all fields, also those of the path. The answer is frames from its beginning, also when it is an error; headers of it come as \`head\`, before all else. What is sent between two calls is dropped.`,
].join('\n\n')

const pathParameters = (path: string): readonly string[] =>
  [...path.matchAll(/\{([^}]+)\}/g)].map((match) => match[1] ?? '')

const withoutProperties = (schema: JsonSchema, names: readonly string[]): JsonSchema => ({
  ...schema,
  properties: Object.fromEntries(
    propertiesOf(schema)
      .filter(({ name }) => !names.includes(name))
      .map(({ name, schema: inner }) => [name, inner]),
  ),
  ...(Array.isArray(schema['required'])
    ? { required: schema['required'].filter((name) => !names.includes(String(name))) }
    : {}),
})

const errorResponses = (operation: Operation): Record<string, unknown> => {
  const codes: readonly ErrorCode[] = [...operation.errors, ...COMMON_ERRORS]
  const byStatus = Map.groupBy(new Set(codes), (code) => ERRORS[code].status)
  return Object.fromEntries(
    [...byStatus.entries()]
      .toSorted(([a], [b]) => a - b)
      .map(([status, ofStatus]) => [
        String(status),
        {
          description: ofStatus.map((code) => `\`${code}\`: ${ERRORS[code].summary}`).join('; '),
          content: { [JSON_TYPE]: { schema: { $ref: '#/components/schemas/Error' } } },
        },
      ]),
  )
}

const requestBody = (operation: Operation, schema: JsonSchema): Record<string, unknown> => {
  const content: Record<string, unknown> = { [JSON_TYPE]: { schema } }
  if (operation.upload !== undefined) {
    content[FRAMES_CONTENT_TYPE] = {
      schema: { type: 'string', format: 'binary' },
      'x-pyro-input': schema,
      'x-pyro-upload': operation.upload,
    }
  }
  return { required: true, content }
}

const successContent = (operation: Operation): Record<string, unknown> => {
  const result = outputSchema(operation.result)
  if (operation.kind === 'unary') return { [JSON_TYPE]: { schema: result } }
  const stream = {
    'x-pyro-result': result,
    ...(operation.event === undefined ? {} : { 'x-pyro-event': outputSchema(operation.event) }),
    ...(operation.download === undefined ? {} : { 'x-pyro-download': operation.download }),
  }
  return {
    [FRAMES_CONTENT_TYPE]: { schema: { type: 'string', format: 'binary' }, ...stream },
    [NDJSON_CONTENT_TYPE]: { schema: { type: 'string' }, ...stream },
  }
}

const operationObject = (operation: Operation, http: HttpFacet): Record<string, unknown> => {
  const schema = inputSchema(operation.input)
  const inPath = pathParameters(http.path)
  const rest = withoutProperties(schema, inPath)
  const inQuery = http.method === 'GET' || http.method === 'DELETE'
  const named = new Map(propertiesOf(schema).map((property) => [property.name, property]))
  const parameters = [
    ...inPath.map((name) => ({
      name,
      in: 'path',
      required: true,
      schema: named.get(name)?.schema ?? { type: 'string' },
    })),
    ...(inQuery
      ? propertiesOf(rest).map(({ name, required, schema: inner }) => ({
          name,
          in: 'query',
          required,
          // Query values are JSON, so that numbers, lists and objects keep their type.
          content: { [JSON_TYPE]: { schema: inner } },
        }))
      : []),
    { $ref: '#/components/parameters/version' },
    ...(operation.mutates ? [{ $ref: '#/components/parameters/request' }] : []),
  ]
  return {
    operationId: operation.id,
    summary: operation.summary,
    ...(operation.description === undefined ? {} : { description: operation.description }),
    parameters,
    ...(inQuery ? {} : { requestBody: requestBody(operation, rest) }),
    responses: {
      '200': { description: 'done', content: successContent(operation) },
      ...errorResponses(operation),
    },
  }
}

const paths = (): Record<string, Record<string, unknown>> => {
  const result: Record<string, Record<string, unknown>> = {}
  for (const operation of Object.values(OPERATIONS) as readonly Operation[]) {
    if (isAbsent(operation.http)) continue
    const path = (result[operation.http.path] ??= {})
    path[operation.http.method.toLowerCase()] = operationObject(operation, operation.http)
  }
  return result
}

export const openapi = async (): Promise<GeneratedFile> =>
  jsonFile('spec/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'Pyro engine',
      version: await packageVersion(),
      description: `HTTP on a unix socket that only root can open. Unknown fields are refused; a JSON request is at most ${LIMITS.requestBytes} bytes. An answer has the header \`${STARTED_HEADER}\`, with the name of the workspace, when the call had to start it first.\n\n${FRAMES_TEXT}`,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://localhost', description: 'the unix socket of the engine' }],
    paths: paths(),
    components: {
      parameters: {
        version: {
          name: VERSION_HEADER,
          in: 'header',
          required: false,
          description: 'Version of the client; another one than the engine gets `engine.version-mismatch`.',
          schema: { type: 'string' },
        },
        request: {
          name: REQUEST_ID_HEADER,
          in: 'header',
          required: false,
          description: 'Id of the call: a repeated call with the same id is answered with the result of the first.',
          schema: { type: 'string', maxLength: 64 },
        },
      },
      schemas: {
        Error: {
          type: 'object',
          required: ['error'],
          properties: { error: { ...outputSchema(errorBody), 'x-pyro-codes': Object.keys(ERRORS) } },
        },
      },
    },
  })
