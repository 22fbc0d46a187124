import type { EnvironmentDetails, EnvironmentRecord } from '@pyro/protocol'
import { formatAge, formatBytes } from './format.ts'
import { fields } from './table.ts'

export const environmentDetails = (environment: EnvironmentDetails): string =>
  fields([
    ['name', environment.name],
    ['description', environment.description],
    ['installed', environment.installed ? 'yes' : 'no; pyro env pull brings it'],
    ['digest', environment.digest],
    ['size', environment.sizeBytes === null ? null : formatBytes(environment.sizeBytes)],
    ['created', environment.createdAt === null ? null : formatAge(environment.createdAt)],
    ['source', environment.source],
    ['platform', environment.platform],
    ['microVM kernel', environment.microvmKernel?.release ?? 'none here; the first microVM brings it'],
    ['user', environment.user],
    ['working folder', environment.workingDir],
    [
      'env',
      Object.entries(environment.env)
        .map(([key, value]) => `${key}=${value}`)
        .join(' '),
    ],
    ['used by', environment.usedBy.join(', ')],
    ['packages', packagesOf(environment)],
  ])

/** All of them are in the document of `--json`. */
const packagesOf = ({ packages }: EnvironmentRecord): string | null =>
  packages.length === 0 ? null : `${packages.length} (--json lists them)`

export const environmentLine = ({ name, sizeBytes, digest }: EnvironmentRecord): string =>
  [name, sizeBytes === null ? null : formatBytes(sizeBytes), digest?.slice(0, 19) ?? null]
    .filter((part) => part !== null)
    .join(' · ')
