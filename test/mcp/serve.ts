// What a host would start: the server with the options of a test, as JSON in the first argument.
import { serve, type ServeOptions } from '@pyro/mcp'

const serving = await serve(JSON.parse(process.argv[2] ?? '{}') as ServeOptions)
if (serving.url !== null)
  process.stdout.write(`${JSON.stringify({ url: serving.url, tokenFile: serving.tokenFile })}\n`)
await serving.closed
