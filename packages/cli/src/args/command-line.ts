// Anything a shell would treat specially.
const SHELL_CHARACTERS = /[\s|&;<>()$`\\"'*?[\]#~=%!{}]/

/**
 * The words behind `--`: a single word with spaces or shell characters is a line for `sh -lc`, everything else exact arguments.
 * `~`, `=`, `%`, `#` and `!` count only where a shell looks at them, but nobody names a program with one.
 */
export const commandOf = (words: readonly string[]): string | string[] => {
  const [only] = words
  return words.length === 1 && only !== undefined && SHELL_CHARACTERS.test(only) ? only : [...words]
}
