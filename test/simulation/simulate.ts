import { loadProgram } from './fleet/program.js'
import { runFleet } from './fleet/run-fleet.js'
import { drawFleet } from './fleet/spec.js'
import { RealServer } from './world/server.js'

const server = await RealServer.start()
const program = await loadProgram(process.cwd())
const [from = 1, to = from] = process.argv.slice(2).map(Number)
const only = process.argv[4] === 'none' ? { faults: [], features: (await import('./fleet/spec.js')).FEATURES } : undefined
for (let seed = from; seed <= to; seed++) {
  const spec = drawFleet(seed, only)
  const r = await runFleet(program, server, spec, { keepLines: 0 })
  console.log(seed, r.hash, 'calls', r.fleet.calls.size, 'runs', r.runs, 'virtual', (r.virtualMs / 1000).toFixed(0), 'commands', r.commands, 'per s', (r.commands / r.wallMs * 1000).toFixed(0), spec.features.join(), '|', [...new Set(spec.faults.map((f) => f.kind))].join())
  for (const x of r.reports.slice(0, 5)) console.log('   ', x.oracle, x.text.slice(0, 600))
}
process.exit(0)
