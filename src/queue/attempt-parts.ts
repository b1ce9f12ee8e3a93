import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { CallRequest } from '../admission/request.js'
import type { UsageReader } from '../admission/usage-reader.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import type { WorkerObserver } from '../telemetry/observer.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import type { CallNotes } from './call-notes.js'
import type { CallStarter } from './call-starter.js'
import type { Handler, WorkerOptions } from './handler.js'
import type { SendBack } from './send-back.js'
import type { StrategyResolver } from './strategy-resolver.js'

/** What the attempts of one worker share. */
export interface AttemptParts {
  readonly scriptClient: ScriptClient
  readonly redis: Redis
  readonly log: Logger
  readonly strategyResolver: StrategyResolver
  readonly tracker: UpstreamTracker
  readonly usage: UsageReader
  readonly handler: Handler
  readonly options: WorkerOptions
  readonly observer: Required<WorkerObserver>
  readonly metrics: CallMetrics
  readonly notes: CallNotes
  readonly starter: CallStarter
  /** Renews the concurrency slots of the calls that run. */
  readonly leases: { add(request: CallRequest): void; remove(request: CallRequest): void }
  readonly sendBack: SendBack
  /** Whether the worker lets go of calls that Redis does not decide on. */
  readonly isClosing: () => boolean
}
