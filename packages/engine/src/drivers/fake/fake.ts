import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Technology } from '../monitored/technology.ts'
import { RuntimeProgram } from '../monitored/runtime-program.ts'
import { ENTER_SCRIPT, RUNTIME_SCRIPT } from './runtime-script.ts'

/** Plain namespaces and a private root, no limits and no promises: it lets whole-disk cases run on any Linux. Tests only. */
export function fakeTechnology(): Technology {
  const unshare = new RuntimeProgram('unshare')
  return {
    id: 'fake',
    isolation: 'none',
    mainProcess: 'its first process',
    limits: null,
    volumes: 'trees',
    ids: 'shared',
    logLimitBytes: null,
    isMachine: false,
    configBy: 'stdin',
    flush: 'none',
    async missing() {
      const found = await unshare.find()
      return found === null ? { ok: false, detail: 'unshare is missing', fix: 'apt-get install util-linux' } : null
    },
    version: () => unshare.version(),
    async writeBundle(spec, { paths, agentBinary, ids }) {
      const settings = { root: spec.volume.path, agent: agentBinary, id_base: String(ids.base) }
      const files = {
        'settings.sh': Object.entries(settings)
          .map(([name, value]) => `${name}='${value.replaceAll("'", String.raw`'\''`)}'\n`)
          .join(''),
        'runtime.sh': RUNTIME_SCRIPT,
        'enter.sh': ENTER_SCRIPT,
      }
      for (const [name, text] of Object.entries(files)) {
        await writeFile(join(paths.folder, name), text)
        await chmod(join(paths.folder, name), 0o644)
      }
    },
    runtime: (paths) =>
      Promise.resolve({ runtime: ['/bin/sh', join(paths.folder, 'runtime.sh')], runtimeLogFile: null }),
  }
}
