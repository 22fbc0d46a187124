import { expect, test } from 'vitest'
import { publishedManifest } from './manifest.ts'

const manifest = { name: '@pyro/x', version: '1.0.0', description: 'x' }

test('exports of sources become exports of built files with their types', () => {
  const published = publishedManifest({ ...manifest, exports: { '.': './src/index.ts', './guest': './src/guest.ts' } })
  expect(published).toMatchObject({
    exports: {
      '.': { types: './dist/index.d.ts', default: './dist/index.js' },
      './guest': { types: './dist/guest.d.ts', default: './dist/guest.js' },
    },
  })
})

test('tools and scripts of the checkout are not published', () => {
  const published = publishedManifest({ ...manifest, devDependencies: { a: '1' }, scripts: { a: 'b' } })
  expect(published).not.toHaveProperty('devDependencies')
  expect(published).not.toHaveProperty('scripts')
})

test('an export that is not built is refused', () => {
  expect(() => publishedManifest({ ...manifest, exports: { '.': './lib/index.js' } })).toThrow('no TypeScript file')
})
