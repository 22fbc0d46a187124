import { isPyroError } from '@pyro/protocol'
import type { CallContext } from './tool.ts'

/** Packages whose presence decides what a model can do, by the word for them. */
const NOTABLE = [
  ['git', 'git'],
  ['curl', 'curl'],
  ['python3', 'python3'],
  ['nodejs', 'node'],
  ['golang-go', 'go'],
  ['rustc', 'rust'],
  ['gcc', 'gcc'],
  ['make', 'make'],
] as const
const COMPILERS = new Set(['gcc', 'go', 'rust'])

/** `git, curl, python3; no compilers`; null when the packages of an environment are not known. */
export const environmentTools = async (
  environment: string,
  { pyro, signal }: Pick<CallContext, 'pyro' | 'signal'>,
): Promise<string | null> => {
  try {
    const { packages } = await pyro.environments.inspect(environment, { signal })
    if (packages.length === 0) return null
    const names = new Set(packages.map(({ name }) => name))
    const found = NOTABLE.filter(([name]) => names.has(name)).map(([, word]) => word)
    const compilers = found.some((word) => COMPILERS.has(word)) ? '' : 'no compilers'
    return [found.join(', '), compilers].filter((part) => part !== '').join('; ')
  } catch (error) {
    // The environment may have been replaced meanwhile: its name then says enough.
    if (isPyroError(error) && error.code === 'environment.not-found') return null
    throw error
  }
}
