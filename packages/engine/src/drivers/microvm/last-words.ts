/** What a kernel writes to its console when it cannot go on (kernel/panic.c), cut to what a line of a message holds. */
const PANIC = /Kernel panic - not syncing: (.{1,200}?)(?= \[| CPU:|$)/

export const lastWordsOfLinux = (log: string): string | null => {
  const why = PANIC.exec(log)?.[1]
  return why === undefined ? null : `the kernel of the guest gave up: ${why}`
}
