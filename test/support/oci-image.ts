import { createHash } from 'node:crypto'
import { tarOf, type TarMember } from './tar.ts'

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

/** Node's names of processors, as images spell them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

/** An image of one layer in the form that `docker save` writes: an OCI image layout in a tar. */
export const savedImage = (files: readonly TarMember[]): Buffer => {
  const layer = tarOf(files)
  const config = json({
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    os: 'linux',
    config: { Env: ['APP=yes'], WorkingDir: '/srv' },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
  })
  const describe = (data: Buffer, kind: string): object => ({
    mediaType: `application/vnd.oci.image.${kind}`,
    digest: `sha256:${sha256(data)}`,
    size: data.length,
  })
  const manifest = json({
    schemaVersion: 2,
    config: describe(config, 'config.v1+json'),
    layers: [describe(layer, 'layer.v1.tar')],
  })
  const index = json({ schemaVersion: 2, manifests: [describe(manifest, 'manifest.v1+json')] })
  const blobs = [layer, config, manifest].map((content) => ({ name: `blobs/sha256/${sha256(content)}`, content }))
  return tarOf([
    { name: 'oci-layout', content: JSON.stringify({ imageLayoutVersion: '1.0.0' }) },
    { name: 'index.json', content: index },
    ...blobs,
  ])
}
