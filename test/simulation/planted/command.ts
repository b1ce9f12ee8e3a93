import { parseArgs } from 'node:util'
import { plantedFaults } from './faults.js'
import { plant } from './planted.js'
import { runPlanted, type SeedRange } from './run-planted.js'

const USAGE = `node dist/test/simulation/planted/command.js [NAME …]

Plants each of the faults (default: all) into a copy of the project, and runs the simulation on the copy
until its first report. The exit code is 1 where a fault is not found.

  --seeds 1-200    the seeds to try
  --list           say what the faults are, and which invariants they break
  --keep           plant the named faults together into one copy, keep it, and print its folder:
                   node dist/test/simulation/simulate.js --program FOLDER --seed 7
`

function seedsOf(given: string): SeedRange {
  const [, first = '', last = first] = /^(\d+)(?:-(\d+))?$/.exec(given) ?? []
  if (first === '' || Number(last) < Number(first)) throw new Error(`--seeds: must be a number or a range such as 1-200 (got ${given})`)
  return { first: Number(first), last: Number(last) }
}

function list(): void {
  for (const { name, files, summary, breaks, needs } of plantedFaults()) {
    process.stdout.write(`${name} (${files.join(', ')})\n  ${summary}\n  breaks: ${breaks}\n  needs: ${needs}\n`)
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seeds: { type: 'string', default: '1-200' },
      list: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(USAGE)
    return 0
  }
  if (values.list) {
    list()
    return 0
  }
  if (values.keep) {
    const { root } = await plant(...positionals)
    process.stdout.write(`${root}\n`)
    return 0
  }
  const names = positionals.length > 0 ? positionals : plantedFaults().map(({ name }) => name)
  return (await runPlanted({ names, seeds: seedsOf(values.seeds) })) ? 0 : 1
}

process.exitCode = await main()
