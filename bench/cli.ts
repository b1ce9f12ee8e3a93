import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { atMost, type Figure, median } from './lib/measure.js'

const STARTS = 15
const BAR_MS = 200
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url))
/** Tells at its end what the whole process has used, in µs. */
const TELL = `data:text/javascript,process.on('exit',()=>console.error(Object.values(process.cpuUsage()).join('+')))`

/** ms of CPU of one start of the command line. */
function startMs(): number {
  const { status, stderr } = spawnSync(process.execPath, ['--import', TELL, MAIN, '--help'], { encoding: 'utf8' })
  const [, user, system] = /(\d+)\+(\d+)\n$/.exec(stderr) ?? []
  if (status !== 0 || user === undefined) throw new Error(`tollgate --help ended with ${status}: ${stderr}`)
  return (Number(user) + Number(system)) / 1000
}

/** What the command line costs before it does anything. */
export async function cli(): Promise<Figure[]> {
  const times = Array.from({ length: STARTS }, startMs)
  const spread = `${Math.min(...times).toFixed(0)} to ${Math.max(...times).toFixed(0)} in ${STARTS} starts, one after the other`
  return [atMost('cli: ms of CPU of tollgate --help', median(times), BAR_MS, spread)]
}
