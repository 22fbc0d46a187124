import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { tarOf, type TarMember } from '../support/tar.ts'

export interface Image {
  /** Tag or reference name; null: the image has none. */
  readonly ref: string | null
  readonly layers: readonly (readonly TarMember[])[]
  /** `config` of the image: Env, User, WorkingDir and what we do not read. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Default: this machine's. */
  readonly architecture?: string
  readonly compression?: 'none' | 'gzip' | 'zstd'
}

/** Path to content. */
export type Parts = ReadonlyMap<string, Buffer>

export const HOST_ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch

const OCI = 'application/vnd.oci.image'

/** What `skopeo copy … oci:` and `buildah push … oci:` leave: an index, manifests, configs and layers as blobs. */
export const ociLayout = (images: readonly Image[]): Parts => {
  const parts = new Map<string, Buffer>([['oci-layout', json({ imageLayoutVersion: '1.0.0' })]])
  const manifests = images.map((image) => ({
    ...imageBlobs(parts, image),
    ...(image.ref === null ? {} : { annotations: { 'org.opencontainers.image.ref.name': image.ref } }),
  }))
  return parts.set('index.json', json({ schemaVersion: 2, manifests }))
}

/** One name for several platforms: an index that names an index. */
export const multiPlatformLayout = (ref: string, images: readonly Image[]): Parts => {
  const parts = new Map<string, Buffer>([['oci-layout', json({ imageLayoutVersion: '1.0.0' })]])
  const inner = images.map((image) => ({
    ...imageBlobs(parts, image),
    platform: { os: 'linux', architecture: image.architecture ?? HOST_ARCHITECTURE },
  }))
  const index = blob(parts, `${OCI}.index.v1+json`, json({ schemaVersion: 2, manifests: inner }))
  const annotations = { 'org.opencontainers.image.ref.name': ref }
  return parts.set('index.json', json({ schemaVersion: 2, manifests: [{ ...index, annotations }] }))
}

/** What `docker save` wrote before it wrote OCI layouts: `manifest.json`, a config and a folder for each layer. */
export const dockerSave = (images: readonly Image[]): Parts => {
  const parts = new Map<string, Buffer>()
  const manifest = images.map((image) => {
    const layers = image.layers.map(tarOf)
    const config = configOf(image, layers)
    const configName = `${hexOf(config)}.json`
    parts.set(configName, config)
    const names = layers.map((layer) => `${hexOf(layer)}/layer.tar`)
    layers.forEach((layer, at) => parts.set(names[at] ?? '', layer))
    return { Config: configName, RepoTags: image.ref === null ? null : [image.ref], Layers: names }
  })
  return parts.set('manifest.json', json(manifest))
}

export const layoutTar = (parts: Parts): Buffer => tarOf([...parts].map(([name, content]) => ({ name, content })))

export const layoutFolder = (parts: Parts, folder: string): string => {
  for (const [name, content] of parts) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const imageBlobs = (parts: Map<string, Buffer>, image: Image): Descriptor => {
  const plain = image.layers.map(tarOf)
  const layers = plain.map((layer) => blob(parts, ...compressed(layer, image.compression ?? 'none')))
  const config = blob(parts, `${OCI}.config.v1+json`, configOf(image, plain))
  return blob(parts, `${OCI}.manifest.v1+json`, json({ schemaVersion: 2, config, layers }))
}

const compressed = (layer: Buffer, how: 'none' | 'gzip' | 'zstd'): [string, Buffer] => {
  switch (how) {
    case 'none':
      return [`${OCI}.layer.v1.tar`, layer]
    case 'gzip':
      return [`${OCI}.layer.v1.tar+gzip`, gzipSync(layer)]
    case 'zstd':
      return [`${OCI}.layer.v1.tar+zstd`, zstdCompressSync(layer)]
  }
}

const configOf = ({ architecture = HOST_ARCHITECTURE, config = {} }: Image, layers: readonly Buffer[]): Buffer =>
  json({
    os: 'linux',
    architecture,
    config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${hexOf(layer)}`) },
  })

const blob = (parts: Map<string, Buffer>, mediaType: string, content: Buffer): Descriptor => {
  parts.set(`blobs/sha256/${hexOf(content)}`, content)
  return { mediaType, digest: `sha256:${hexOf(content)}`, size: content.length }
}

const hexOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex')

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
