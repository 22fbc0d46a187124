/** Letters from which on a beginning says enough. */
const BEGINNING = 3

/** The most similar candidate, when it is similar enough to be a slip of the fingers, or the only one that begins so. */
export const nearest = (word: string, candidates: readonly string[]): string | null => {
  const begun = word.length < BEGINNING ? [] : candidates.filter((candidate) => candidate.startsWith(word))
  if (begun.length === 1) return begun[0] ?? null
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate)
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** Insertions, deletions, replacements and swaps of neighbours. */
const editDistance = (a: string, b: string): number => {
  let older: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (older[j - 2] ?? 0) + 1)
      row.push(cost)
    }
    older = previous
    previous = row
  }
  return previous[b.length] ?? 0
}
