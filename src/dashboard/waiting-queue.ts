import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import type { Job, Queue } from 'bullmq'
import { durationText } from '../model/time.js'
import type { Explanation } from '../queue/explain.js'
import { clockText } from './effects.js'
import type { Figures } from './figures.js'

/** In how many states a job may still wait. */
const ENDED: ReadonlySet<Explanation['state']> = new Set(['done', 'failed', 'expired', 'running'])
/** How long a queue is shown as limited where it cannot be known when its next call starts. */
const UNKNOWN_MS = 60_000
const LINES_LOOKED_AT = 5

/** Where a call stands, as the board shows it with the data of its job. */
function waitsOf({ state, position, etaMs, etaMaxMs, binding, waitsFor, todo }: Explanation) {
  return {
    state,
    place: position === null ? null : position + 1,
    startsAbout: etaMs === null ? null : `${clockText(Date.now() + etaMs)}, in ${durationText(etaMs)}`,
    startsAtTheLatestIn: etaMaxMs === null ? null : durationText(etaMaxMs),
    limit: binding === null ? null : `${binding.rule} · ${binding.scopeValue} · ${binding.limit}`,
    waitsFor,
    todo,
  }
}

/** One line for the name of a job: "openai · place 4, starts in 6.0 s: account · openai · tokens/minute". */
function nameWith(name: string, { position, etaMs, binding, waitsFor }: Explanation): string {
  const place = position === null ? '' : `place ${position + 1}, `
  const starts = etaMs === null ? 'start not known' : `starts in ${durationText(etaMs)}`
  const limit = binding === null ? (waitsFor ?? '') : `${binding.rule} · ${binding.scopeValue} · ${binding.limit}`
  return `${name} · ${place}${starts}${limit === '' ? '' : `: ${limit}`}`
}

/**
 * A queue as the board shows it: waiting jobs have their place, start and limit in their name and data, and the queue says why it waits. Nothing of that
 * is written to Redis: it is asked for the jobs of one page when that is shown. Jobs are looked at only: changes are made on the pages of Tollgate, where
 * each is in the audit.
 */
export class WaitingQueue extends BullMQAdapter {
  private why = ''

  constructor(
    queue: Queue,
    private readonly figures: Figures,
  ) {
    super(queue, { readOnlyMode: true })
    this.setFormatter('name', (job: { name?: string; explanation?: Explanation }) =>
      job.explanation === undefined ? (job.name ?? '') : nameWith(job.name ?? '', job.explanation),
    )
  }

  override async getJobs(...args: Parameters<BullMQAdapter['getJobs']>): Promise<Job[]> {
    return Promise.all((await super.getJobs(...args)).map((job) => this.explained(job)))
  }

  override async getJob(id: string): Promise<Job | undefined> {
    const job = await super.getJob(id)
    return job === undefined ? undefined : this.explained(job)
  }

  override getDescription(): string {
    return this.why
  }

  /** The board shows a queue as limited for this time: until its next waiting call starts. */
  override async getActiveRateLimitTtl(): Promise<number> {
    const [own, looked] = await Promise.all([super.getActiveRateLimitTtl(), this.figures.linesNow().catch(() => null)])
    if (looked === null || looked.waiting === 0) {
      this.why = ''
      return own
    }
    const names = looked.lines.slice(0, LINES_LOOKED_AT).map(({ rule, scopeValue }) => `${rule}/${scopeValue}`)
    const { lines } = await this.figures.source.lines({ names })
    const starts = lines.map(({ headEtaMs }) => headEtaMs).filter((ms) => ms !== null)
    const [first] = lines
    const limit =
      first === undefined
        ? ''
        : first.binding === null
          ? (first.waitsFor ?? '')
          : `${first.binding.rule} · ${first.binding.scopeValue} · ${first.binding.limit}`
    this.why = `${looked.waiting.toLocaleString('en-US')} calls of the namespace wait in line${limit === '' ? '' : `, the longest line for ${limit}`}; see Lines`
    return Math.max(own, 1, Math.ceil(starts.length === 0 ? UNKNOWN_MS : Math.min(...starts)))
  }

  private async explained(job: Job): Promise<Job> {
    if (job.finishedOn !== undefined || job.id === undefined) return job
    const explanation = await this.figures.source.explain(job.id).catch(() => undefined)
    if (explanation === undefined || ENDED.has(explanation.state)) return job
    const toJson = job.toJSON.bind(job)
    return Object.assign(job, {
      toJSON: () => {
        const json = toJson()
        const data: unknown = json.data
        const shown = data !== null && typeof data === 'object' && !Array.isArray(data) ? data : { data }
        return { ...json, explanation, data: { '(waits)': waitsOf(explanation), ...shown } }
      },
    })
  }
}
