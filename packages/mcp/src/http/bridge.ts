import type { IncomingMessage, ServerResponse } from 'node:http'
import { once } from 'node:events'

/** Headers that the bridge itself decides. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer'])

/** Null when the body is larger than `limitBytes`; it is read to its end all the same. */
export const readBody = async (request: IncomingMessage, limitBytes: number): Promise<Buffer<ArrayBuffer> | null> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size <= limitBytes) chunks.push(chunk)
  }
  return size > limitBytes ? null : Buffer.concat(chunks)
}

/** The request as web code takes it; its signal fires when the client closes the connection. */
export const webRequest = (request: IncomingMessage, body: Buffer<ArrayBuffer>, signal: AbortSignal): Request => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined || HOP_BY_HOP.has(name)) continue
    headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  }
  const method = request.method ?? 'GET'
  const url = `http://${request.headers.host ?? 'localhost'}${request.url ?? '/'}`
  return new Request(url, { method, headers, signal, ...(body.byteLength > 0 ? { body } : {}) })
}

export const sendResponse = async (response: Response, to: ServerResponse): Promise<void> => {
  to.writeHead(response.status, Object.fromEntries(response.headers))
  // A stream may have nothing to say for long, and its client is to know that it is open.
  to.flushHeaders()
  if (response.body !== null) {
    for await (const chunk of response.body) {
      if (to.destroyed) return
      if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')])
    }
  }
  to.end()
}
