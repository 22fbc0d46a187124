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
/** What Linux and DNS allow for one. */
const HOSTNAME_CHARACTERS = 63
/** Taken of an id, which is random at its end. */
const OWN_CHARACTERS = 6

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

/** The host name inside: what of the name a host name may hold. Where that is not all of it, the end of the id keeps it apart. */
export const hostnameOf = (name: string, workspaceId: string): string => {
  const text = hostnameText(name, HOSTNAME_CHARACTERS)
  if (text === name) return text
  const own = workspaceId.slice(-OWN_CHARACTERS)
  const stem = hostnameText(name, HOSTNAME_CHARACTERS - OWN_CHARACTERS - 1)
  return `${stem === '' ? 'workspace' : stem}-${own}`
}

const hostnameText = (name: string, characters: number): string =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .slice(0, characters)
    .replaceAll(/^-+|-+$/g, '')
