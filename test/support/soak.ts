/** How much of a thing is enough: a short form runs with all tests, the long one with `npm run soak`. */
export const enough = (amount: { readonly inTests: number; readonly inSoak: number }): number =>
  process.env['PYRO_SOAK'] === '1' ? amount.inSoak : amount.inTests
