import type { Bounds, Report } from './facts.js'
import { acceptedMs, chargeMs, type History, type Story } from './history.js'
import { WorkersNow } from './workers-now.js'

/** Calls are woken so long ahead of their room, and may be held in a worker meanwhile: until then they may have left their line. */
const WOKEN_AHEAD_MS = 100

/**
 * Bounded lines: where the rules of a call let only so many wait, it gets a place behind fewer, and is refused as one too many behind so many. Judged
 * for calls that one rule covers, so that they can stand in no line but its own, until something disturbs the fleet.
 */
export function boundedLines(history: History, { stepMs }: Bounds): Report[] {
  const calls = [...history.stories.values()].filter(({ asked }) => asked.boundedBy !== undefined).sort((a, b) => a.asked.atMs - b.asked.atMs)
  if (calls.length === 0) return []
  const workers = new WorkersNow(history)
  for (const run of history.runs) workers.note(run)
  workers.ready()
  const calmUntilMs = Math.min(
    ...history.faults.map(({ atMs }) => atMs),
    ...history.runs.flatMap(({ ended }) => (ended?.how === 'sent back' ? [ended.atMs] : [])),
  )
  return calls.flatMap((story, index): Report[] => {
    const { asked, answered } = story
    const { line, most } = asked.boundedBy as NonNullable<typeof asked.boundedBy>
    if (answered === undefined || answered.atMs >= calmUntilMs || asked.door !== 'queue') return []
    const others = calls.filter((other) => other !== story && other.asked.boundedBy?.line === line)
    if (answered.outcome === 'wait') {
      // A woken call of a queue without a free place has left its line, too.
      if (workers.free(asked.queue ?? '', answered.atMs) === 0) return []
      const before = others.filter((other) => calls.indexOf(other) < index && surelyStands(other, story, stepMs)).length
      if (before < most) return []
      return [report(story, `${story.id} got a place in line behind ${before} calls; ${line} lets ${most} wait`)]
    }
    if (answered.outcome !== 'refused' || answered.code !== 'LINE_FULL') return []
    const before = others.filter((other) => mayStand(other, story)).length
    return before >= most ? [] : [report(story, `${story.id} was refused since the line of ${line} is full; at most ${before} calls waited, and ${most} may`)]
  })
}

function report({ id, asked }: Story, text: string): Report {
  return { oracle: 'line bounded', atMs: asked.atMs, text, calls: [id] }
}

/** Whether a call that came before waits in line when another is answered, and for some time longer. */
function surelyStands(other: Story, { asked, answered }: Story, stepMs: number): boolean {
  const together = other.asked.by === asked.by && other.asked.atMs === asked.atMs
  if (other.answered?.outcome !== 'wait' || !(together || other.answered.atMs <= asked.atMs)) return false
  return goneMs(other) > (answered?.atMs ?? asked.atMs) + WOKEN_AHEAD_MS + stepMs
}

/** Whether a call may wait in line when another is decided on. */
function mayStand(other: Story, { asked, answered }: Story): boolean {
  if (other.asked.atMs > (answered?.atMs ?? asked.atMs) || other.answered?.outcome === 'refused') return false
  return acceptedMs(other) === undefined || goneMs(other) >= asked.atMs
}

function goneMs({ runs, results, cancelled, asked }: Story): number {
  const [first] = runs
  const ends = [first && chargeMs(first), results[0]?.atMs, cancelled[0]?.atMs, asked.deadlineMs]
  return Math.min(...ends.filter((ms) => ms !== undefined), asked.atMs + (asked.maxWaitMs ?? Number.POSITIVE_INFINITY))
}
