export { Pyro, type ConnectOptions } from './pyro.ts'
export { Workspace } from './handles/workspace.ts'
export { Workspaces, createWorkspace, type CreateOptions } from './handles/workspaces.ts'
export { Command } from './handles/command.ts'
export { Commands } from './handles/commands.ts'
export { Snapshots } from './handles/snapshots.ts'
export { Files } from './handles/files.ts'
export { Environments, type ImportOptions, type ImportSource, type ProgressOptions } from './handles/environments.ts'
export { Engine } from './handles/engine.ts'
export { execCommand, startCommand, type ExecOptions, type OutputOptions, type StdinInput } from './handles/exec.ts'
export {
  diffWorkspace,
  exportFiles,
  pushFiles,
  writeOutput,
  type Diff,
  type DiffOptions,
  type ExportOptions,
  type PushOptions,
} from './handles/transfer.ts'
export type { RunOptions } from './handles/run.ts'
export type { Seed } from './host/seed.ts'
export { gitTopLevel, patchPlace, realFolder, type PatchPlace } from './host/work-tree.ts'
export { Client, type CallOptions, type ClientOptions } from './transport/client.ts'
export type { CommandSignal } from './transport/command.ts'
export { readLogs, type LogsCall, type LogsOptions, type OutputChunk } from './transport/output.ts'
export { writeError } from './host/write-error.ts'
export { TarReader, type UnpackedEntry, type UnpackHandler } from './host/tar/unpack.ts'
export { resolveHome, socketOfHome } from './engine/home.ts'
export { VERSION } from './generated/routes.ts'
export { isPyroError, PyroError, type ErrorCode } from '@pyro/protocol/client'
