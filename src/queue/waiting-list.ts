import {
  type CallsPage,
  type CheckedCallsQuery,
  type CheckedLinesQuery,
  type Cursor,
  isAskedFor,
  type LinesPage,
  type ListedCall,
  type ListedLine,
  type ListedState,
  namedFields,
  readCursor,
  writeCursor,
} from '../gate/waiting.js'
import type { Call } from '../model/call.js'
import { SECOND } from '../model/time.js'
import { waitsFor } from '../model/wait-reason.js'
import { repliesTo } from '../redis/replies.js'
import { type ExplainParts, type Explanation, explainStored } from './explain.js'
import { callOfJob, parseRecordId, readRecord, recordId } from './stored-call.js'

/** So many calls and lines are looked at for a page at most. */
const LOOKED_AT_MOST = 2000
/** How many lines are read in one round trip, and of how many of its calls a line's oldest is the oldest. */
const LINES_AT_ONCE = 8
const FIRST_CALLS = 8
/** The data of jobs is read with their payloads: so many at once. */
const JOBS_AT_ONCE = 20
const SCAN_COUNT = 64

/** Where calls of a state are found, in the order of a list without a state. */
type Source = { readonly state: ListedState } & ({ readonly in: 'lines' | 'passes' } | { readonly in: 'list' | 'set'; readonly jobs: string })
const SOURCES: readonly Source[] = [
  { state: 'waiting', in: 'lines' },
  { state: 'woken', in: 'passes' },
  { state: 'queued', in: 'list', jobs: 'wait' },
  { state: 'queued', in: 'list', jobs: 'paused' },
  { state: 'queued', in: 'set', jobs: 'prioritized' },
  { state: 'queued', in: 'set', jobs: 'delayed' },
  { state: 'running', in: 'list', jobs: 'active' },
]

/** A part of a page: ids of records, and where to go on. */
interface PagePart {
  readonly ids: readonly string[]
  readonly next: Cursor
  readonly looked: number
}

/**
 * Lists calls and lines, page by page.
 *
 * A page reads a bounded number of calls, however many wait, and whatever they have to match. Its cursor names the source, the step of a ZSCAN of that,
 * the member where it stopped, and within a line the place of the last call. So calls that stay where they are are listed once (where Redis resizes the
 * set of lines meanwhile perhaps twice); calls that come, move or leave meanwhile may be missing, or be listed twice. Nothing is kept between pages.
 */
export class WaitingList {
  constructor(
    private readonly parts: ExplainParts,
    private readonly queue: string,
  ) {}

  /** @throws RequestInvalid where the cursor is none */
  async calls(query: CheckedCallsQuery): Promise<CallsPage> {
    if (query.line !== undefined) return this.callsOfLine(query.line, query)
    const calls: ListedCall[] = []
    let at: Cursor | null = readCursor(query.cursor) ?? start(0)
    for (let looked = 0; at !== null && calls.length < query.limit && looked < LOOKED_AT_MOST; ) {
      const source: Source | undefined = SOURCES[at[0]]
      if (source === undefined) at = null
      else if ((query.state ?? source.state) !== source.state || (query.state === undefined && source.state === 'running')) at = start(at[0] + 1)
      else if (query.rule !== undefined && source.in !== 'lines') at = start(at[0] + 1)
      else {
        const step = await this.step(source, at, query.limit - calls.length, query.rule)
        calls.push(...(await this.listed(source, step.ids, query)))
        looked += step.looked + 1
        at = step.next
      }
    }
    return { calls, cursor: at === null || at[0] >= SOURCES.length ? null : writeCursor(at) }
  }

  /** @throws RequestInvalid where the cursor is none */
  async lines({ cursor, limit, rule, names }: CheckedLinesQuery): Promise<LinesPage> {
    const { scriptClient } = this.parts
    if (names !== undefined) return { lines: await this.describe(names.map((name) => this.lineKey(name))), cursor: null }
    const lines: ListedLine[] = []
    let at = readCursor(cursor) ?? start(0)
    for (let looked = 0; at[0] === 0 && lines.length < limit && looked < LOOKED_AT_MOST; ) {
      const [found, next] = await this.scan(scriptClient.keys.lines, at, limit - lines.length)
      lines.push(...(await this.describe(found.filter((line) => rule === undefined || scriptClient.keys.parseLine(line)?.rule === rule))))
      looked += found.length + 1
      at = next
    }
    return { lines: lines.sort((one, other) => other.depth - one.depth), cursor: at[0] === 0 ? writeCursor(at) : null }
  }

  private lineKey(name: string): string {
    return this.parts.scriptClient.keys.linePrefix + name
  }

  /** The calls of one line by their places: from a place on, or from that of the cursor. */
  private async callsOfLine(line: string, query: CheckedCallsQuery): Promise<CallsPage> {
    const calls: ListedCall[] = []
    let at = query.cursor === undefined ? (query.from ?? 0) : Number(readCursor(query.cursor)?.[3])
    for (const last = at + LOOKED_AT_MOST; calls.length < query.limit && at < last; ) {
      const ids = await this.parts.redis.zrange(this.lineKey(line), String(at), String(at + query.limit - 1))
      const found = await this.listed({ state: 'waiting', in: 'lines' }, ids, query)
      const room = query.limit - calls.length
      calls.push(...found.slice(0, room))
      // A call that the page has no room for is the first of the next one.
      const left = found[room]
      at += left === undefined ? ids.length : ids.findIndex((id) => parseRecordId(id).jobId === left.id)
      if (left === undefined && ids.length < query.limit) return { calls, cursor: null }
    }
    return { calls, cursor: writeCursor([0, '0', '', String(at)]) }
  }

  private step(source: Source, at: Cursor, most: number, rule: string | undefined): Promise<PagePart> {
    const { keys } = this.parts.scriptClient
    switch (source.in) {
      case 'lines':
        return this.stepInLines(at, most, rule)
      case 'passes':
        return this.stepInSet(keys.passes, at, most)
      case 'set':
        return this.stepInSet(this.bullKey(source.jobs), at, Math.min(most, JOBS_AT_ONCE), this.queue)
      case 'list':
        return this.stepInList(this.bullKey(source.jobs), at, Math.min(most, JOBS_AT_ONCE))
      default:
        return source satisfies never
    }
  }

  private bullKey(name: string): string {
    return `${this.parts.scriptClient.keys.prefix}:${this.queue}:${name}`
  }

  /** The members of a sorted set from a cursor on, in the order of a ZSCAN and, within one reply to it, of their names. */
  private async scan(key: string, [source, scan, after]: Cursor, most: number, inclusive = false): Promise<[string[], Cursor]> {
    const [further, flat] = await this.parts.redis.zscan(key, scan, 'COUNT', SCAN_COUNT)
    const members = flat.filter((_, index) => index % 2 === 0).sort()
    const left = members.filter((member) => after === '' || member > after || (inclusive && member === after))
    const taken = left.slice(0, most)
    if (taken.length < left.length) return [taken, [source, scan, taken.at(-1) as string, '']]
    return [taken, further === '0' ? start(source + 1) : [source, further, '', '']]
  }

  private async stepInLines(at: Cursor, most: number, rule: string | undefined): Promise<PagePart> {
    const { redis, scriptClient } = this.parts
    const [lines, next] = await this.scan(scriptClient.keys.lines, at, LINES_AT_ONCE, at[3] !== '')
    const pipeline = redis.pipeline()
    const asked = lines.filter((line) => rule === undefined || scriptClient.keys.parseLine(line)?.rule === rule)
    for (const line of asked)
      pipeline.zrange(line, line === at[2] && at[3] !== '' ? `(${at[3]}` : '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, most + 1, 'WITHSCORES')
    const replies = await repliesTo(pipeline)
    const ids: string[] = []
    for (const [n, line] of asked.entries()) {
      const flat = replies[n] as string[]
      for (let i = 0; i < flat.length; i += 2) {
        if (ids.length === most) {
          // Nothing was taken of this line, or a part of it.
          const rest: Cursor = i === 0 ? [at[0], at[1], asked[n - 1] as string, ''] : [at[0], at[1], line, flat[i - 1] as string]
          return { ids, next: rest, looked: lines.length + ids.length }
        }
        ids.push(flat[i] as string)
      }
    }
    return { ids, next, looked: lines.length + ids.length }
  }

  private async stepInSet(key: string, at: Cursor, most: number, queue?: string): Promise<PagePart> {
    const [members, next] = await this.scan(key, at, most)
    return { ids: queue === undefined ? members : members.map((job) => recordId(queue, job)), next, looked: members.length }
  }

  /** From the end where jobs are added: those that come meanwhile are missed, none is for those that are taken. */
  private async stepInList(key: string, [source, , , from]: Cursor, most: number): Promise<PagePart> {
    const first = Number(from)
    const jobs = await this.parts.redis.lrange(key, first, first + most - 1)
    const next: Cursor = jobs.length < most ? start(source + 1) : [source, '0', '', String(first + jobs.length)]
    return { ids: jobs.map((job) => recordId(this.queue, job)), next, looked: jobs.length }
  }

  private async listed(source: Source, ids: readonly string[], query: CheckedCallsQuery): Promise<ListedCall[]> {
    const { scriptClient } = this.parts
    const asked = ids.filter((id) => query.queue === undefined || parseRecordId(id).queue === query.queue)
    const records = await scriptClient.recordsOf(asked)
    const state = { waiting: 'waiting', woken: 'passed' }[source.state as string]
    const found = asked.map((id, n) => ({ id, record: records[n] ?? '', stored: readRecord(records[n] ?? null) }))
    if (state === undefined)
      return this.jobs(
        source.state,
        found.filter(({ stored }) => stored === null || stored.state === 'started').map(({ id }) => id),
        query,
      )
    const matching = found.filter(({ stored }) => stored?.state === state && isAskedFor(stored.call ?? {}, query))
    const [explained, waited] = await Promise.all([explainStored(this.parts, matching), this.waitedMs(matching.map(({ id }) => id))])
    return explained.flatMap(({ position, etaMs, etaMaxMs, binding, waitsFor: reason, todo }, n): ListedCall[] => {
      const { id, stored } = matching[n] as (typeof matching)[number]
      if (query.waitsFor !== undefined && query.waitsFor !== reason) return []
      const { queue, jobId } = parseRecordId(id)
      const waits = { binding, position, etaMs, etaMaxMs, waitedMs: waited[n] ?? null, waitsFor: reason, todo }
      return [{ id: jobId, queue, state: source.state, ...namedFields(stored?.call ?? {}), ...waits }]
    })
  }

  /** Calls of which BullMQ knows alone. */
  private async jobs(state: ListedState, ids: readonly string[], query: CheckedCallsQuery): Promise<ListedCall[]> {
    const { redis, scriptClient, queueStates } = this.parts
    const pipeline = redis.pipeline()
    for (const id of ids) {
      pipeline.hmget(scriptClient.keys.job(id), 'name', 'data', 'timestamp')
      pipeline.zscore(this.bullKey('delayed'), parseRecordId(id).jobId)
    }
    const [replies, nowMs, reason] = await Promise.all([repliesTo(pipeline), this.nowMs(), queueStates.reason(this.queue)])
    return ids.flatMap((id, n): ListedCall[] => {
      const [name, data, timestamp] = replies[2 * n] as (string | null)[]
      if (typeof data !== 'string') return []
      const call = readJob(name ?? '', data)
      const waits = waitsFor(state === 'running' ? null : replies[2 * n + 1] === null ? reason : 'DELAYED')
      if (!isAskedFor(call, query) || (query.waitsFor !== undefined && query.waitsFor !== waits.waitsFor)) return []
      const where = { binding: null, position: null, etaMs: null, etaMaxMs: null, waitedMs: Math.max(0, nowMs - Number(timestamp)) }
      return [{ id: parseRecordId(id).jobId, queue: this.queue, state, ...namedFields(call), ...where, ...waits }]
    })
  }

  private async describe(lines: readonly string[]): Promise<ListedLine[]> {
    const { redis, scriptClient } = this.parts
    const pipeline = redis.pipeline()
    for (const line of lines) {
      pipeline.zcard(line)
      pipeline.zrange(line, '0', String(FIRST_CALLS - 1))
      pipeline.zrange(line, '-1', '-1')
    }
    const replies = await repliesTo(pipeline)
    const found = lines.flatMap((line, n) => {
      const [depth, first, [last]] = replies.slice(3 * n, 3 * n + 3) as [number, string[], string[]]
      return first[0] === undefined ? [] : [{ line, depth, first, head: first[0], last: last ?? first[0] }]
    })
    // Of each line its first call and its last one.
    const ends = found.flatMap(({ head, last }) => [head, last])
    const records = await scriptClient.recordsOf(ends)
    const [explained, waited] = await Promise.all([
      explainStored(
        this.parts,
        ends.map((id, n) => ({ id, record: records[n] ?? '' })),
      ),
      this.waitedMs(found.flatMap(({ first }) => first)),
    ])
    let next = 0
    return found.map(({ line, depth, first, head }, n) => {
      const ages = waited.slice(next, next + first.length).filter((ms) => ms !== null)
      next += first.length
      const [of, ofLast] = explained.slice(2 * n, 2 * n + 2) as [Explanation, Explanation]
      const { etaMs: headEtaMs, etaMaxMs: headEtaMaxMs, binding, waitsFor: reason, todo } = of
      const name = line.slice(scriptClient.keys.linePrefix.length)
      const oldestMs = ages.length === 0 ? null : Math.max(...ages)
      const etas = { headEtaMs, headEtaMaxMs, lastEtaMs: ofLast.etaMs, lastEtaMaxMs: ofLast.etaMaxMs }
      return { line: name, depth, oldestMs, head: parseRecordId(head).jobId, ...etas, binding, waitsFor: reason, todo }
    })
  }

  /** For how long each call has been on its way, by the time of its job. */
  private async waitedMs(ids: readonly string[]): Promise<(number | null)[]> {
    const pipeline = this.parts.redis.pipeline()
    for (const id of ids) pipeline.hget(this.parts.scriptClient.keys.job(id), 'timestamp')
    const [replies, nowMs] = await Promise.all([repliesTo(pipeline), this.nowMs()])
    return replies.map((timestamp) => (timestamp === null ? null : Math.max(0, nowMs - Number(timestamp))))
  }

  private async nowMs(): Promise<number> {
    const [seconds, micros] = await this.parts.redis.time()
    return Number(seconds) * SECOND + Math.floor(Number(micros) / SECOND)
  }
}

function start(source: number): Cursor {
  return [source, '0', '', '']
}

function readJob(name: string, data: string): Partial<Call> {
  try {
    return callOfJob(name, JSON.parse(data))
  } catch {
    // A worker with `callOf` may read it otherwise, or refuse it.
    return { agent: name }
  }
}
