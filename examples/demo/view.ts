import { bar, count, seconds } from './format.js'
import type { Line, Snapshot } from './snapshot.js'

const BAR_WIDTH = 24
const LIVE_MS = 200
const PLAIN_MS = 1000
const HIDE_CURSOR = '\u001b[?25l'
const SHOW_CURSOR = '\u001b[?25h'
const CLEAR_BELOW = '\u001b[0J'

/** Shows the progress of a run. */
export interface View {
  readonly everyMs: number
  show(snapshot: Snapshot, elapsedMs: number): void
  end(): void
}

function lineText({ org, length, etaMs, waitsFor }: Line): string {
  if (length === 0) return `${org.padEnd(10)} no call waits`
  const eta = etaMs === null ? '' : `, the last starts in ${seconds(etaMs)}`
  return `${org.padEnd(10)} ${count(length).padStart(5)} wait${waitsFor === null ? '' : ` for ${waitsFor}`}${eta}`
}

function screen(snapshot: Snapshot, elapsedMs: number): string[] {
  const limits = snapshot.limits.map(({ rule, limit, scopeValue, used, claimed, capacity }) => {
    const name = `${rule} ${limit}`.padEnd(24)
    return `  ${name} ${scopeValue.padEnd(8)} ${bar((used + claimed) / capacity, BAR_WIDTH)} ${count(used + claimed)} of ${count(capacity)}`
  })
  const { started, finished, total } = snapshot
  return [
    'Limits (used of what each can hold at once)',
    ...limits,
    'Lines',
    ...snapshot.lines.map((line) => `  ${lineText(line)}`),
    `${bar(finished / total, BAR_WIDTH)} ${count(finished)} of ${count(total)} calls finished, ${count(started - finished)} running, ${seconds(elapsedMs)}`,
  ]
}

/** Redraws in place. */
function liveView(out: NodeJS.WriteStream): View {
  let height = 0
  const up = () => (height === 0 ? '' : `\u001b[${height}A\r`)
  return {
    everyMs: LIVE_MS,
    show(snapshot, elapsedMs) {
      // A line that wraps would be two, and the next redraw one too low.
      const lines = screen(snapshot, elapsedMs).map((line) => line.slice(0, Math.max(20, out.columns - 1)))
      out.write(`${HIDE_CURSOR}${up()}${CLEAR_BELOW}${lines.join('\n')}\n`)
      height = lines.length
    },
    end: () => void out.write(SHOW_CURSOR),
  }
}

/** One line a second, for logs and pipes. */
function plainView(out: NodeJS.WriteStream): View {
  return {
    everyMs: PLAIN_MS,
    show({ lines, sent, started, finished, total }, elapsedMs) {
      const waiting = lines.map(({ org, length, etaMs }) => `${org} ${count(length)}${etaMs === null ? '' : ` (${seconds(etaMs)})`}`)
      const running = `${count(sent)} sent, ${count(started - finished)} running, ${count(finished)} of ${count(total)} finished`
      out.write(`${seconds(elapsedMs).padStart(7)}  ${running}; in line: ${waiting.join(', ')}\n`)
    },
    end: () => {},
  }
}

export function viewFor(out: NodeJS.WriteStream): View {
  return out.isTTY ? liveView(out) : plainView(out)
}
