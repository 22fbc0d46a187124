/** What a promise is rejected with, for one that is only looked at later. It is an error of the test when it resolves. */
export const rejectionOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => {
      throw new Error(`resolved, with ${JSON.stringify(value)?.slice(0, 1000)}`)
    },
    (error: unknown) => error,
  )
