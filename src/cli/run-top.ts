import { setTimeout as sleep } from 'node:timers/promises'
import { ConfigInvalid } from '../model/errors.js'
import type { Tollgate } from '../tollgate.js'
import { show } from '../validation/faults.js'
import { type Common, openTollgate } from './common.js'
import { paint, type Screen, screenOf, table } from './table.js'

interface TopFlags extends Common {
  every?: string
  once?: boolean
}

const LINES_SHOWN = 10
const STATE_STYLES = { flowing: 'green', slowed: 'yellow', stopped: 'red', unknown: 'magenta' } as const

const seconds = (ms: number | null) => (ms === null ? null : Math.round(ms / 100) / 10)
const percent = (share: number) => `${Math.round(share * 1000) / 10} %`

/** One look at the namespace. */
async function look(tollgate: Tollgate) {
  const [health, stats, seen, limitedBy, agents] = await Promise.all([
    tollgate.health(),
    tollgate.stats.all(),
    tollgate.history.now(),
    tollgate.history.limitedBy({ overMs: 3_600_000 }),
    tollgate.stats.upstream(),
  ])
  return {
    at: new Date().toISOString(),
    state: health.state,
    sentence: health.sentence,
    todo: health.next.text,
    waiting: seen?.waiting ?? null,
    rules: stats.map(({ rule, checks, exceeded, hitRate, checkP95Ms }) => ({ rule, checks, exceeded, refused: percent(hitRate), p95Ms: checkP95Ms })),
    limitedBy: limitedBy.map(({ rule, limit, share, calls }) => ({ limit: `${rule}/${limit}`, share: percent(share), calls })),
    lines: (seen?.lines ?? []).slice(0, LINES_SHOWN).map(({ rule, scopeValue, limit, depth, oldestMs }) => ({
      line: `${rule}/${scopeValue}`,
      limit,
      depth,
      oldestS: seconds(oldestMs),
    })),
    agents: agents.map(({ agent, endpoint, model, state, factor, blockedMs }) => ({ agent, endpoint, model, state, factor, blockedS: seconds(blockedMs) })),
  }
}

function drawn(seen: Awaited<ReturnType<typeof look>>, screen: Screen): string {
  const { at, state, sentence, todo, waiting, rules, limitedBy, lines, agents } = seen
  const sections = { 'limited by': limitedBy, rules, lines, agents }
  const head = `${paint(STATE_STYLES[state], state, screen)}  ${sentence}  ${paint('dim', `${waiting ?? '–'} calls in line, ${at}`, screen)}\n${todo}`
  return [head, ...Object.entries(sections).map(([name, rows]) => `${paint('bold', name, screen)}\n${table(rows, screen)}`)].join('\n\n')
}

/** Looks at the namespace again and again, until it is interrupted. Where standard output is no terminal it prints one look after the other. */
export async function runTop(options: TopFlags): Promise<void> {
  const everyMs = Number(options.every ?? 2) * 1000
  if (!(everyMs >= 500 && everyMs <= 3_600_000)) throw new ConfigInvalid(`every: must be a number of seconds from 0.5 to 3600 (got ${show(options.every)})`)
  const tollgate = await openTollgate(options)
  const stopped = new AbortController()
  const stop = () => stopped.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    do {
      const seen = await look(tollgate)
      const screen = screenOf()
      if (options.json === true) console.log(JSON.stringify(seen))
      else if (process.stdout.isTTY === true && options.once !== true) {
        // Home, each line cleared behind its text, and everything below: no flicker.
        process.stdout.write(`\u001b[H${drawn(seen, screen).replaceAll('\n', '\u001b[K\n')}\u001b[K\n\u001b[J`)
      } else console.log(drawn(seen, screen))
      if (options.once === true) return
      await sleep(everyMs, undefined, { signal: stopped.signal }).catch(() => {})
    } while (!stopped.signal.aborted)
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
    await tollgate.close()
  }
}
