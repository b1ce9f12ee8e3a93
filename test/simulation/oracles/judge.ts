import { boundedLines } from './bounded-lines.js'
import { cancelledStays } from './cancelled.js'
import { etaTold } from './eta-told.js'
import type { Bounds, Fact, Report } from './facts.js'
import { readHistory } from './history.js'
import { heldUpByRefused, hotLoops, leftAloneForGood } from './hot-loop.js'
import { inOrder } from './in-order.js'
import { startsInPause } from './in-pause.js'
import { neverOver } from './never-over.js'
import { neverStuck } from './never-stuck.js'
import { noError } from './no-error.js'
import { nothingLost } from './nothing-lost.js'
import { nothingTwice } from './nothing-twice.js'
import { quiet } from './quiet.js'
import { refusedWithRoom } from './refused-with-room.js'
import { wokenOnce } from './woken-once.js'

/** Judges what happened in a fleet by all oracles; what was wrong first comes first. */
export function judge(facts: readonly Fact[], bounds: Bounds): Report[] {
  const history = readHistory(facts)
  const oracles = [
    neverOver,
    startsInPause,
    neverStuck,
    refusedWithRoom,
    hotLoops,
    heldUpByRefused,
    leftAloneForGood,
    nothingLost,
    cancelledStays,
    nothingTwice,
    wokenOnce,
    inOrder,
    boundedLines,
    etaTold,
    quiet,
  ]
  const reports = [...noError(facts), ...oracles.flatMap((oracle) => oracle(history, bounds))]
  return reports.sort((a, b) => a.atMs - b.atMs)
}
