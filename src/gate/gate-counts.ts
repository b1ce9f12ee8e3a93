import type { CallRequest } from '../admission/request.js'
import { GateTally } from '../history/gate-calls.js'
import type { Recorder } from '../history/recorder.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { COUNTED } from '../telemetry/metric-table.js'

/** Of so many decisions between two collections what their limits have left is looked at, and of a further one every 10 ms: a look reads all usage of a decision. */
const LOOKS = 200
const LOOK_EVERY_MS = 10

/** Counts what the gate decides, for the history and the metrics: the counts reach these when they are sent or read. */
export class GateCounts {
  private readonly tally = new GateTally(COUNTED.gate.buckets ?? [])
  private looks = 0
  private lookedMs = 0

  constructor(
    private readonly recorder: Recorder,
    private readonly metrics: CallMetrics,
  ) {
    const collect = () => this.collect()
    recorder.onSend = collect
    metrics.cells.onRead = collect
  }

  /** A call that waits for nothing. @param sentMs when its decision was asked for, by `performance.now` */
  decided(request: CallRequest, decision: RunDecision | RejectDecision, sentMs: number): void {
    const nowMs = performance.now()
    const { recorder, metrics } = this
    if (!this.tally.add(request, decision, nowMs - sentMs, nowMs)) {
      recorder.atGate(request, decision, nowMs - sentMs)
      metrics.decided('gate', request, decision, sentMs)
      return
    }
    if (decision.outcome === 'reject') recorder.violated(request, decision)
    if (this.looks++ < LOOKS || nowMs - this.lookedMs >= LOOK_EVERY_MS) {
      this.lookedMs = nowMs
      recorder.looked(request, decision)
      metrics.looked(decision, nowMs)
    }
  }

  private collect(): void {
    this.looks = 0
    const sinceMs = Date.now() - performance.now()
    for (const calls of this.tally.collect()) {
      this.recorder.sumAtGate(calls, sinceMs + calls.lastMs)
      this.metrics.sumAtGate(calls)
    }
  }
}
