import { randomInt } from 'node:crypto'
import { WORKSPACE_ID_PATTERN, PyroError } from '@pyro/protocol'

const ADJECTIVES =
  'able amber bold brave brisk calm clear clever cosy crisp deft eager early fair fast fond free fresh glad golden good grand happy hardy keen kind light lively loyal lucky merry mild neat noble proud quick quiet rapid ready sharp shiny smart snug solid steady still sunny swift tidy warm wise witty'.split(
    ' ',
  )
const NOUNS =
  'acorn anchor apple arch badger beacon birch bridge brook cedar cliff cloud comet coral crane creek dune eagle elm ember falcon fern field finch fjord flint forest fox glade grove harbor hazel heron hill island ivy lake lark lily maple meadow moss oak otter owl peak pebble pine pond raven reef ridge river robin sage sparrow spring star stone thistle tide trail valley willow wren'.split(
    ' ',
  )
const TRIES = 20

/** A name nobody has: two words, and a number when those are taken. */
export const freshName = (taken: (name: string) => boolean): string => {
  for (let attempt = 0; ; attempt++) {
    const words = `${ADJECTIVES[randomInt(ADJECTIVES.length)]}-${NOUNS[randomInt(NOUNS.length)]}`
    const name = attempt < TRIES ? words : `${words}-${randomInt(1_000_000)}`
    if (!taken(name)) return name
  }
}

/** A name that looks like an id could hide a workspace behind another one. */
export const refuseIdLike = (name: string): void => {
  if (!WORKSPACE_ID_PATTERN.test(name)) return
  throw new PyroError('input.invalid', `name: ${name} looks like an id of a workspace; nothing was changed`, {
    hint: 'take another name',
    data: { field: 'name' },
  })
}

/** The host name inside: what of the name a host name may hold. */
export const hostnameOf = (name: string): string => {
  const text = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 63)
  return text === '' ? 'workspace' : text
}
