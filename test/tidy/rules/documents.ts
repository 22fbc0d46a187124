import { posix } from 'node:path'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fixture, repositoryRoot, type Rule, type SourceFile, type Violation } from '../sources.ts'

export const documentRules: readonly Rule[] = [
  {
    name: 'every link in a document leads somewhere',
    check: (files) => {
      const byPath = new Map(files.map((file) => [file.path, file]))
      return files.filter(({ path }) => path.endsWith('.md')).flatMap((file) => brokenLinks(file, byPath))
    },
    caught: [
      fixture('docs/a.md', 'see [b](no-such-file.md)'),
      fixture('docs/a.md', '# Title\n\nsee [below](#no-such-heading)'),
      fixture('docs/a.md', '![picture](missing.png)'),
    ],
    allowed: [
      fixture(
        'docs/a.md',
        '# My `pyro` title, twice\n\nsee [above](#my-pyro-title-twice), [web](https://example.org/x.md)',
      ),
      fixture('docs/a.md', '```sh\necho [x](nowhere.md)\n```\nand `[y](nowhere.md)`'),
    ],
  },
]

function brokenLinks(file: SourceFile, byPath: ReadonlyMap<string, SourceFile>): Violation[] {
  const violations: Violation[] = []
  for (const [index, line] of withoutCode(file.text).split('\n').entries()) {
    for (const match of line.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)) {
      const target = match[1] ?? ''
      if (/^[a-z][a-z0-9+.-]*:/i.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const resolved =
        path === '' ? file.path : posix.normalize(posix.join(posix.dirname(file.path), decodeURIComponent(path)))
      const document = byPath.get(resolved)
      const exists = document !== undefined || existsSync(join(repositoryRoot, resolved))
      const missing = !exists || (anchor !== undefined && document !== undefined && !anchors(document.text).has(anchor))
      if (missing) violations.push({ path: file.path, line: index + 1, message: `broken link ${target}` })
    }
  }
  return violations
}

/** Code blocks and code spans, emptied; the number of lines stays. */
function withoutCode(text: string): string {
  const blocks = text.replaceAll(/^( *)(```+|~~~+)[\s\S]*?^ *\2/gm, (block) => block.replaceAll(/[^\n]/g, ''))
  return blocks.replaceAll(/`[^`\n]*`/g, '')
}

/** GitHub's anchors for headings, and explicit ones. */
function anchors(text: string): Set<string> {
  const found = new Set<string>()
  const counts = new Map<string, number>()
  for (const [, heading = ''] of text.matchAll(/^#{1,6}\s+(.*)$/gm)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    const slug = plain
      .trim()
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(/\s/g, '-')
    const seen = counts.get(slug) ?? 0
    counts.set(slug, seen + 1)
    found.add(seen === 0 ? slug : `${slug}-${seen}`)
  }
  for (const [, id = ''] of text.matchAll(/<a\s+(?:id|name)="([^"]+)"/g)) found.add(id)
  return found
}
