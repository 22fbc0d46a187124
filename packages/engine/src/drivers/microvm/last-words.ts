/** What a kernel writes to its console when it cannot go on (kernel/panic.c), cut to what a line of a message holds. */
const PANIC = /Kernel panic - not syncing: (.{1,200}?)(?= \[| CPU:|$)/
/** The last line of an agent that ends itself, which its kernel does not survive. */
const AGENT_ENDED = /.*pyro-agent: (.{1,300}?) \[ *[\d.]+\] Kernel panic - not syncing: Attempted to kill init/s

export const agentGaveUp = (log: string): boolean => AGENT_ENDED.test(log)

export const lastWordsOfLinux = (log: string): string | null => {
  const agent = AGENT_ENDED.exec(log)?.[1]
  if (agent !== undefined) return `the agent gave up: ${agent}`
  const why = PANIC.exec(log)?.[1]
  return why === undefined ? null : `the kernel of the guest gave up: ${why}`
}

/** What qemu says when it is asked to end from outside; it ends with 0 then, too. */
const ASKED = /terminating on signal (\d+)/

export const orderlyEndOfMachine = (log: string): string => {
  const signal = ASKED.exec(log)?.[1]
  return signal === undefined ? 'the guest switched itself off or restarted' : `its VMM was ended by signal ${signal}`
}
