import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { World } from '../support/world.ts'

/** With python3 and openssl. */
const ENVIRONMENT = 'debian:12'
const VCPUS = 2

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Each processor draws from a pool of its own. */
const DRAW = `
import json, os, secrets, socket, ssl, subprocess, uuid
read = lambda path: open(path).read().strip()
drawn = {
    "getrandom": os.getrandom(32).hex(),
    "pool": os.getrandom(32, os.GRND_RANDOM).hex(),
    "uuid of the kernel": read("/proc/sys/kernel/random/uuid"),
    "uuid": str(uuid.uuid4()),
    "secret": secrets.token_hex(32),
    "TLS": ssl.RAND_bytes(32).hex(),
    "TLS key": subprocess.check_output(["openssl", "genpkey", "-algorithm", "ed25519"], text=True),
    "boot id": read("/proc/sys/kernel/random/boot_id"),
}
for cpu in os.sched_getaffinity(0):
    os.sched_setaffinity(0, {cpu})
    drawn[f"urandom {cpu}"] = open("/dev/urandom", "rb").read(32).hex()
name = {"hostname": socket.gethostname(), "machine id": read("/etc/machine-id")}
print(json.dumps({"drawn": drawn, "name": name}))
`

interface Drawn {
  readonly drawn: Readonly<Record<string, string>>
  readonly name: Readonly<Record<string, string>>
  readonly memory: string
}

/** What the first program of a machine draws, and what the engine's record knows of its agent. */
const drawIn = async (ws: Workspace): Promise<Drawn> => {
  const { stdout } = await ws.exec(['python3', '-c', DRAW], { check: true })
  const { drawn, name } = JSON.parse(stdout) as Omit<Drawn, 'memory'>
  const { spec, details } = await recordOf(ws)
  return {
    drawn: { ...drawn, 'token of the agent': spec.token, 'boot id of the agent': details.bootId },
    name,
    memory: memoryOf(details.pid),
  }
}

interface SandboxRecord {
  readonly spec: { readonly token: string }
  readonly details: { readonly bootId: string; readonly pid: number }
}

const recordOf = async (ws: Workspace): Promise<SandboxRecord> => {
  const { generation } = await ws.status()
  const db = new DatabaseSync(join(world.home, 'state.db'), { readOnly: true })
  try {
    const row = db.prepare('SELECT record FROM sandboxes WHERE id = ?').get(`${ws.id}-g${generation}`)
    return JSON.parse(String(row?.['record'])) as SandboxRecord
  } finally {
    db.close()
  }
}

/** Device and inode of the file that a machine's memory began with; a machine that booted has none. */
const memoryOf = (pid: number): string =>
  /^\S+ \S+ \S+ (\S+ \d+) +\/pyro\/memory$/m.exec(readFileSync(`/proc/${pid}/maps`, 'utf8'))?.[1] ?? 'of its own'

describe('machines from one template', () => {
  test('share no random number, key, boot id or token, and no name but with those of their workspace', async () => {
    const create = (): Promise<Workspace> =>
      world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'qemu', vcpus: VCPUS, memoryMib: 512 })
    await using one = await create()
    await using other = await create()
    const machines = [await drawIn(one), await drawIn(other)]
    await one.reset()
    machines.push(await drawIn(one))
    await one.stop()
    await one.start()
    machines.push(await drawIn(one))

    const [memory] = machines.map((machine) => machine.memory)
    expect(memory).not.toBe('of its own')
    expect(machines.map((machine) => machine.memory)).toEqual(machines.map(() => memory))

    const kinds = Object.keys(machines[0]?.drawn ?? {})
    expect(kinds).toHaveLength(10 + VCPUS)
    for (const kind of kinds) {
      const seen = machines.map(({ drawn }) => drawn[kind] ?? '')
      expect(seen.filter((value) => value.length < 32)).toEqual([])
      expect({ kind, different: new Set(seen).size }).toEqual({ kind, different: machines.length })
    }
    // Two of one machine, too: what is drawn twice was not drawn.
    const all = machines.flatMap(({ drawn }) => Object.values(drawn))
    expect(new Set(all).size).toBe(all.length)

    const [names, otherNames, ...later] = machines.map(({ name }) => name)
    for (const kind of ['hostname', 'machine id']) expect(names?.[kind]).not.toBe(otherNames?.[kind])
    expect(later).toEqual([names, names])
  })
})
