import { z } from 'zod'
import type { Call } from '../model/call.js'
import type { Binding } from '../model/decision.js'
import { RequestInvalid } from '../model/errors.js'
import { WAIT_REASONS, type WaitReason, type Waits } from '../model/wait-reason.js'
import { callName, endpointName } from '../validation/call.js'
import { faultMessage, show } from '../validation/faults.js'
import { checkRequest } from '../validation/requests.js'

/** waiting: in line. woken: on its way to a worker. queued: in BullMQ, to be decided on when a worker takes it. running: at its handler. */
export const LISTED_STATES = ['waiting', 'woken', 'queued', 'running'] as const
export type ListedState = (typeof LISTED_STATES)[number]

const FIELDS = ['agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip'] as const
type Named = { [Field in (typeof FIELDS)[number] | 'keys' | 'priority']?: Call[Field] | undefined }

/** Which calls to list; the fields are combined by "and". */
export interface CallsQuery extends Omit<Named, 'keys' | 'priority'> {
  /** Default: every call that has not started, those in line first. */
  state?: ListedState | undefined
  /** The rule in whose line calls stand. */
  rule?: string | undefined
  /** The line in which calls stand, as `lines` names it. Its calls are listed in their order, from the place `from` on. */
  line?: string | undefined
  /** Only with `line`: how many of its calls to leave out; default 0. */
  from?: number | undefined
  waitsFor?: WaitReason | undefined
  queue?: string | undefined
  /** Of the page before: where to go on. */
  cursor?: string | undefined
  /** The most calls of a page: 1 to 500; default 100. */
  limit?: number | undefined
}

/** A call that has not ended, and what it waits for. */
export interface ListedCall extends Waits, Named {
  readonly id: string
  /** Null where it waits in this process, in `acquire`. */
  readonly queue: string | null
  readonly state: ListedState
  readonly binding: Binding | null
  readonly position: number | null
  readonly etaMs: number | null
  /** By when it starts at the latest, where `etaMs` is the earliest. */
  readonly etaMaxMs: number | null
  /** For how long it has been on its way. */
  readonly waitedMs: number | null
}

export interface CallsPage {
  readonly calls: readonly ListedCall[]
  /** Null: there is no further page. A page may be short, or empty, and have one: its cost is bounded, whatever matches. */
  readonly cursor: string | null
}

export interface LinesQuery {
  rule?: string | undefined
  /** These lines alone, by their names, at most 100; those that are empty are left out. There is one page then. */
  names?: readonly string[] | undefined
  cursor?: string | undefined
  /** The most lines of a page: 1 to 200; default 50. */
  limit?: number | undefined
}

/** Calls that wait for the same. */
export interface ListedLine extends Waits {
  /** Rule and scope value. `~queue/<queue>`: calls that wait for a worker. `~returned/<queue>/<id>`: one call that its agent refused. */
  readonly line: string
  /** How many calls stand in it. */
  readonly depth: number
  /** How long the longest waiting of its first calls has been on its way. */
  readonly oldestMs: number | null
  /** The id of its first call. */
  readonly head: string
  /** Estimated ms until the first call starts; null where that is unknown. */
  readonly headEtaMs: number | null
  /** By when it starts at the latest. */
  readonly headEtaMaxMs: number | null
  /** When its last call starts, as `headEtaMs` and `headEtaMaxMs` say it of the first. */
  readonly lastEtaMs: number | null
  readonly lastEtaMaxMs: number | null
  readonly binding: Binding | null
}

export interface LinesPage {
  readonly lines: readonly ListedLine[]
  readonly cursor: string | null
}

/** Where the next page begins, in what its source understands. */
const cursorSchema = z.tuple([z.number().int().min(0), z.string(), z.string(), z.string()])
export type Cursor = z.output<typeof cursorSchema>

export function writeCursor(cursor: Cursor): string {
  return Buffer.from(JSON.stringify(cursor)).toString('base64url')
}

/** @throws RequestInvalid */
export function readCursor(text: string | undefined): Cursor | undefined {
  if (text === undefined) return undefined
  try {
    const cursor = cursorSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString()))
    // What Redis would not take for a cursor or a score.
    if (/^\d{0,20}$/.test(cursor[1]) && (cursor[3] === '' || Number.isFinite(Number(cursor[3])))) return cursor
  } catch {
    // Said below.
  }
  throw new RequestInvalid(faultMessage('cursor', 'must be one that a page was answered with', show(text)))
}

const cursor = z.string().min(1).max(8192).optional()

const lineName = z.string().min(1).max(4096).regex(/\//, 'must be a rule and a scope value with / between them')

export const callsSchema = z.strictObject({
  state: z.enum(LISTED_STATES).optional(),
  rule: callName.optional(),
  line: lineName.optional(),
  from: z.number().int().min(0).max(1e9).optional(),
  waitsFor: z.enum(Object.keys(WAIT_REASONS) as [WaitReason, ...WaitReason[]]).optional(),
  queue: callName.optional(),
  agent: callName.optional(),
  endpoint: endpointName.optional(),
  model: callName.optional(),
  user: callName.optional(),
  team: callName.optional(),
  org: callName.optional(),
  ip: callName.optional(),
  cursor,
  limit: z.number().int().min(1).max(500).default(100),
})

export const linesSchema = z.strictObject({
  rule: callName.optional(),
  names: z.array(lineName).max(100).optional(),
  cursor,
  limit: z.number().int().min(1).max(200).default(50),
})

export type CheckedCallsQuery = z.output<typeof callsSchema>
export type CheckedLinesQuery = z.output<typeof linesSchema>

/** @throws RequestInvalid naming field, value and bound */
export const checkCallsQuery = (query: CallsQuery) => checkRequest(callsSchema, query, 'calls')
/** @throws RequestInvalid naming field, value and bound */
export const checkLinesQuery = (query: LinesQuery) => checkRequest(linesSchema, query, 'lines')

/** What a list shows of a call. */
export function namedFields(call: Named): Named {
  return Object.fromEntries([...FIELDS, 'keys', 'priority'].flatMap((field) => (field in call ? [[field, call[field as keyof Named]]] : []))) as Named
}

export function isAskedFor(call: Named, query: CheckedCallsQuery): boolean {
  return FIELDS.every((field) => query[field] === undefined || query[field] === call[field])
}
