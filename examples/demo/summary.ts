import type { Counters } from '../sample-agent/counters.js'
import { count, duration, percent, percentile, seconds } from './format.js'
import type { Plan } from './plan.js'
import type { Progress } from './progress.js'

/** Calls that start within this time did not wait: it is the way through the queue. */
const WAITED_MS = 100

/** Whether every call finished, and the agent refused none. */
export function succeeded(progress: Progress, agent: Counters): boolean {
  return progress.finished === progress.total && agent.tooMany === 0
}

function waits(values: readonly number[]): string {
  return `p50 ${duration(percentile(values, 0.5))}, p95 ${duration(percentile(values, 0.95))}`
}

/** The closing table. */
export function summary(plan: Plan, progress: Progress, agent: Counters): string {
  const { account, orgs } = plan
  const { estimated, actual } = progress.tokens
  const spanSeconds = progress.spanMs / 1000
  const all = progress.waitsMs()
  // The most that the account allows in that time, burst included.
  const requests = account.requestBurst + account.requestsPerSecond * spanSeconds
  const tokens = account.tokenBurst + (account.tokensPerMinute / 60) * spanSeconds
  const rows: [string, string][] = [
    ['calls finished', `${count(progress.finished)} of ${count(progress.total)}, the last one started after ${seconds(progress.spanMs)}`],
    ['calls that had to wait', `${count(all.filter((ms) => ms > WAITED_MS).length)} (longer than ${WAITED_MS} ms)`],
    ['waited, all', waits(all)],
    ...(orgs.length > 1 ? orgs.map((org): [string, string] => [`waited, ${org}`, waits(progress.waitsMs(org))]) : []),
    ['account: requests used', `${percent(progress.started / requests)} of ${count(account.requestsPerSecond)}/s, burst ${count(account.requestBurst)}`],
    ['account: tokens used', `${percent(actual / tokens)} of ${count(account.tokensPerMinute)}/min, burst ${count(account.tokenBurst)}`],
    ['pickups per call', (progress.pickups / Math.max(1, progress.finished)).toFixed(3)],
    ['tokens', `${count(estimated)} estimated, ${count(actual)} used`],
    ['429s the agent had to send', count(agent.tooMany)],
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`).join('\n')
}
