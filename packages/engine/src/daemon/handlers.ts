import type { Handlers } from './handler.ts'
import { commandHandlers } from './handlers/command.ts'
import { engineHandlers } from './handlers/engine.ts'
import { environmentHandlers } from './handlers/environment.ts'
import { fileHandlers } from './handlers/file.ts'
import { run } from './handlers/run.ts'
import { snapshotHandlers } from './handlers/snapshot.ts'
import { workspaceHandlers } from './handlers/workspace.ts'

/** What the engine does for each operation of the contract. */
export const HANDLERS: Handlers = {
  ...workspaceHandlers,
  ...commandHandlers,
  ...snapshotHandlers,
  ...fileHandlers,
  ...environmentHandlers,
  ...engineHandlers,
  run,
}
