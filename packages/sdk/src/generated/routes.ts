// Generated from packages/protocol by `npm run generate`. Do not edit.
import type { OperationId } from '@pyro/protocol'

/** Sent with every call; an engine of another version refuses. */
export const VERSION = '0.1.0'

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly kind: 'unary' | 'stream'
  readonly upload: 'data' | 'stdin' | 'data+stdin' | null
  readonly mutates: boolean
}

export const ROUTES: Readonly<Record<OperationId, Route>> = {
  'workspace.create': { method: 'POST', path: '/v1/workspaces', kind: 'stream', upload: 'data', mutates: true },
  'workspace.list': { method: 'POST', path: '/v1/workspaces/list', kind: 'unary', upload: null, mutates: false },
  'workspace.status': {
    method: 'GET',
    path: '/v1/workspaces/{workspace}',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.update': {
    method: 'PATCH',
    path: '/v1/workspaces/{workspace}',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.delete': { method: 'POST', path: '/v1/workspaces/delete', kind: 'unary', upload: null, mutates: true },
  'workspace.stop': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/stop',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.start': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/start',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.exec': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/exec',
    kind: 'stream',
    upload: 'stdin',
    mutates: true,
  },
  'workspace.command.list': {
    method: 'GET',
    path: '/v1/workspaces/{workspace}/commands',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.command.wait': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/commands/{commandId}/wait',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.command.kill': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/commands/{commandId}/kill',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.logs': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/logs',
    kind: 'stream',
    upload: null,
    mutates: false,
  },
  'workspace.snapshot.create': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/snapshots',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.snapshot.list': {
    method: 'GET',
    path: '/v1/workspaces/{workspace}/snapshots',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.snapshot.inspect': {
    method: 'GET',
    path: '/v1/workspaces/{workspace}/snapshots/{name}',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.snapshot.delete': {
    method: 'DELETE',
    path: '/v1/workspaces/{workspace}/snapshots/{name}',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.reset': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/reset',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  'workspace.diff': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/diff',
    kind: 'stream',
    upload: null,
    mutates: false,
  },
  'workspace.sync.push': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/push',
    kind: 'stream',
    upload: 'data',
    mutates: true,
  },
  'workspace.export': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/export',
    kind: 'stream',
    upload: null,
    mutates: false,
  },
  'workspace.file.read': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/file/read',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'workspace.file.write': {
    method: 'POST',
    path: '/v1/workspaces/{workspace}/file/write',
    kind: 'unary',
    upload: null,
    mutates: true,
  },
  run: { method: 'POST', path: '/v1/run', kind: 'stream', upload: 'data+stdin', mutates: true },
  'environment.list': { method: 'GET', path: '/v1/environments', kind: 'unary', upload: null, mutates: false },
  'environment.pull': { method: 'POST', path: '/v1/environments/pull', kind: 'stream', upload: null, mutates: true },
  'environment.import': {
    method: 'POST',
    path: '/v1/environments/import',
    kind: 'stream',
    upload: 'data',
    mutates: true,
  },
  'environment.inspect': {
    method: 'GET',
    path: '/v1/environments/inspect',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
  'environment.remove': { method: 'POST', path: '/v1/environments/remove', kind: 'unary', upload: null, mutates: true },
  'environment.prune': { method: 'POST', path: '/v1/environments/prune', kind: 'unary', upload: null, mutates: true },
  doctor: { method: 'POST', path: '/v1/doctor', kind: 'unary', upload: null, mutates: false },
  'engine.status': { method: 'GET', path: '/v1/engine', kind: 'unary', upload: null, mutates: false },
  'engine.shutdown': { method: 'POST', path: '/v1/engine/shutdown', kind: 'unary', upload: null, mutates: false },
  'request.cancel': {
    method: 'POST',
    path: '/v1/requests/{requestId}/cancel',
    kind: 'unary',
    upload: null,
    mutates: false,
  },
}
