import type { Capability, ParsedInputOf, ResultOf } from '@pyro/protocol'
import type { Engine } from '../engine.ts'
import { checkCapabilities } from './capabilities.ts'
import { findLeaks, releaseLeaks, type Leaks } from './leaks.ts'
import { keyOf } from './thing.ts'

/** What works on this host; with `leaks` what has no owner, with `fix` after what is certain was released. */
export const diagnose = async (engine: Engine, input: ParsedInputOf<'doctor'>): Promise<ResultOf<'doctor'>> => {
  const capabilities = await checkCapabilities(engine)
  if (!input.leaks && !input.fix) return answer(capabilities, null, null)
  const found = await findLeaks(engine)
  if (!input.fix || found.things.length === 0) return answer(capabilities, found, input.fix ? [] : null)
  await releaseLeaks(engine, found)
  const left = await findLeaks(engine)
  const remaining = new Set(left.things.map(keyOf))
  return answer(
    capabilities,
    left,
    found.things.filter((thing) => !remaining.has(keyOf(thing))),
  )
}

const answer = (
  checked: readonly Capability[],
  leaks: Leaks | null,
  fixed: Leaks['things'] | null,
): ResultOf<'doctor'> => {
  const unseen = leaks?.unseen ?? []
  const capabilities = unseen.length === 0 ? [...checked] : [...checked, blindSpot(unseen)]
  return {
    ok: capabilities.every(({ ok, required }) => ok || !required),
    capabilities,
    leaks: leaks?.things.map(({ leak }) => leak) ?? null,
    fixed: fixed?.map(({ leak }) => leak) ?? null,
  }
}

/** An audit that did not see everything must not look like one that found nothing. */
const blindSpot = (unseen: readonly string[]): Capability => ({
  id: 'leak-audit',
  required: true,
  ok: false,
  detail: `not everything could be looked at: ${unseen.join('; ')}`,
  fix: 'pyro daemon logs',
})
