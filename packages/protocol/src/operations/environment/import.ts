import { z } from 'zod'
import { progress } from '../../model/common.ts'
import { environmentRecord } from '../../model/environment.ts'
import { environmentName } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const environmentImport = defineOperation({
  id: 'environment.import',
  summary: 'Make an environment from a root filesystem tar or an OCI image layout',
  description:
    'Takes a root filesystem as tar (plain, gzip or zstd), or an OCI image layout as folder or tar, as docker save, skopeo and buildah write it. Honours Env, User and WorkingDir of an image. A folder is sent as a tar.',
  kind: 'stream',
  mutates: true,
  input: z.strictObject({
    environment: environmentName,
    /** Shown as the source; never opened by the engine. */
    source: z.string().max(4096).default('-'),
    /** Which image of a layout that holds several: its reference name or digest. */
    image: z.string().max(512).optional(),
    replace: z.boolean().default(false),
  }),
  upload: { frame: 'data', what: 'the tar, plain or compressed with gzip or zstd' },
  event: z.object({ type: z.literal('progress'), progress }),
  result: environmentRecord.extend({
    /** Device nodes of the archive, which no sandbox may have: left out. */
    skippedDevices: z.int(),
    durationMs: z.int(),
  }),
  errors: [
    'environment.invalid',
    'environment.in-use',
    'path.exists',
    'archive.unsafe-entry',
    'archive.too-large',
    'archive.truncated',
    'host.needs-root',
    'disk.full',
  ],
  http: { method: 'POST', path: '/v1/environments/import' },
  sdk: { method: 'environments.import' },
  cli: {
    words: ['env', 'import'],
    positionals: [
      { field: 'environment', label: 'NAME', required: true, summary: 'name of the new environment' },
      {
        field: null,
        label: 'PATH|-',
        required: true,
        summary: 'tar, OCI layout folder, or - for stdin',
        completes: 'path',
      },
    ],
    options: [
      {
        flag: 'image',
        field: 'image',
        type: 'string',
        value: 'REF',
        summary: 'which image of a layout that holds several',
      },
      { flag: 'replace', field: 'replace', type: 'boolean', summary: 'supersede an environment of this name' },
    ],
    examples: [
      { line: 'pyro env import mine:1 rootfs.tar', note: 'a root filesystem' },
      { line: 'docker save app | pyro env import app:1 -', note: 'an image' },
    ],
  },
  mcp: { absent: 'an agent works in the environments its people provide' },
})
