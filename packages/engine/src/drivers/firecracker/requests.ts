import { z } from 'zod'

/** One request of Firecracker's API, and what a good answer holds. */
export interface ApiRequest<T> {
  readonly method: 'GET' | 'PUT' | 'PATCH'
  readonly path: string
  /** Null: none. */
  readonly body: Readonly<Record<string, unknown>> | null
  /** Null: an answer without a body. */
  readonly answer: z.ZodType<T> | null
  readonly timeoutMs: number
}

const ANSWER_TIMEOUT_MS = 10_000
/** Writes all memory of the guest, and waits for the disk. */
const SAVE_TIMEOUT_MS = 60_000

const instance = z.object({
  state: z.enum(['Not started', 'Running', 'Paused']),
  vmm_version: z.string().max(64),
})

export const describeInstance: ApiRequest<z.infer<typeof instance>> = {
  method: 'GET',
  path: '/',
  body: null,
  answer: instance,
  timeoutMs: ANSWER_TIMEOUT_MS,
}

const change = (
  method: 'PUT' | 'PATCH',
  path: string,
  body: Readonly<Record<string, unknown>>,
  timeoutMs = ANSWER_TIMEOUT_MS,
): ApiRequest<null> => ({ method, path, body, answer: null, timeoutMs })

export const configureMachine = (machine: { readonly vcpus: number; readonly memoryMib: number }): ApiRequest<null> =>
  change('PUT', '/machine-config', {
    vcpu_count: machine.vcpus,
    mem_size_mib: machine.memoryMib,
    smt: false,
    track_dirty_pages: false,
  })

export const setBootSource = (boot: {
  readonly kernel: string
  readonly initramfs: string
  readonly args: string
}): ApiRequest<null> =>
  change('PUT', '/boot-source', {
    kernel_image_path: boot.kernel,
    initrd_path: boot.initramfs,
    boot_args: boot.args,
  })

/** Disks appear in the guest in the order of these requests. */
export const addDrive = (drive: {
  readonly id: string
  readonly path: string
  readonly writable: boolean
}): ApiRequest<null> =>
  change('PUT', `/drives/${drive.id}`, {
    drive_id: drive.id,
    path_on_host: drive.path,
    is_root_device: false,
    is_read_only: !drive.writable,
    // What the guest flushes is flushed to the host's disk, as with any driver.
    cache_type: 'Writeback',
    io_engine: 'Sync',
  })

export const setVsock = (vsock: { readonly guestCid: number; readonly path: string }): ApiRequest<null> =>
  change('PUT', '/vsock', { guest_cid: vsock.guestCid, uds_path: vsock.path })

export const startInstance = change('PUT', '/actions', { action_type: 'InstanceStart' })
export const pause = change('PATCH', '/vm', { state: 'Paused' })
export const resume = change('PATCH', '/vm', { state: 'Resumed' })

export const createSnapshot = (files: { readonly memory: string; readonly state: string }): ApiRequest<null> =>
  change(
    'PUT',
    '/snapshot/create',
    { snapshot_type: 'Full', snapshot_path: files.state, mem_file_path: files.memory },
    SAVE_TIMEOUT_MS,
  )

/** The memory is mapped privately; the machine stands still until it is resumed. */
export const loadSnapshot = (files: { readonly memory: string; readonly state: string }): ApiRequest<null> =>
  change('PUT', '/snapshot/load', {
    snapshot_path: files.state,
    mem_backend: { backend_type: 'File', backend_path: files.memory },
    track_dirty_pages: false,
    resume_vm: false,
  })
