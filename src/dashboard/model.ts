import type { AuditEntry } from '../administration/audit.js'
import type { OverrideInForce } from '../administration/overrides.js'
import type { ListedCall } from '../gate/waiting.js'
import type { Health } from '../health/health.js'
import type { CallHistory, HistoryPoint, LimitedBy, Spend } from '../history/answers.js'
import type { Usage } from '../model/decision.js'
import type { Spender } from '../model/spender.js'
import type { WaitReason } from '../model/wait-reason.js'
import type { Pause } from '../policy/pause.js'
import type { RuleSpec } from '../policy/rule.js'
import type { Explanation } from '../queue/explain.js'
import type { UpstreamStats } from '../upstream/capacities.js'

/** What the pages show: plain data, made on the server, drawn there and in the browser by the same components. Times are ms by Redis' clock. */

/** Who stands in a line, most first. */
export type Who = readonly { readonly org: string; readonly calls: number }[]

/** A line of calls, as a row of the page Lines. */
export interface LineRow {
  readonly line: string
  readonly rule: string
  readonly scopeValue: string
  /** Whether all tenants share it: colour is for these. */
  readonly shared: boolean
  readonly depth: number
  readonly oldestMs: number | null
  readonly sinceMs: number | null
  /** The limit that its first call waits for. */
  readonly limit: string | null
  readonly waitsFor: WaitReason | null
  readonly todo: string | null
  readonly lastEtaMs: number | null
  readonly lastEtaMaxMs: number | null
  readonly who: Who
  /** Its last hour. */
  readonly history: LineHistory | null
  /** Where calls wait for the end of a pause. */
  readonly pause: Pause | null
}

/** The last hour, of a line or of the namespace. */
export interface LineHistory {
  /** The depth per minute; null where no process dispatched. */
  readonly depths: readonly (number | null)[]
  /** Calls that started per second, over the last five minutes. */
  readonly startingPerSecond: number
  readonly waitP50Ms: number | null
  readonly waitP95Ms: number | null
}

/** A line that is open: a page of its calls. */
export interface OpenLine {
  readonly line: string
  readonly org: string | null
  readonly from: number
  readonly calls: readonly ListedCall[]
  /** With an org: where the next page begins. */
  readonly cursor: string | null
}

/** How full a limit is: 1 has no room. */
export function fullness({ used, claimed, capacity }: Pick<Usage, 'used' | 'claimed' | 'capacity'>): number {
  return capacity <= 0 ? 1 : (used + claimed) / capacity
}

/** How many lines, and calls of an open line, a page has. */
export const LINES_OF_PAGE = 25
export const CALLS_OF_PAGE = 20
export const LINE_ORDERS = ['longest', 'oldest', 'slowest'] as const
export type LineOrder = (typeof LINE_ORDERS)[number]

export interface LinesBody {
  readonly page: 'lines'
  readonly order: LineOrder
  readonly from: number
  readonly rows: readonly LineRow[]
  /** How many lines there are, and how many of them can be ranked; the others are listed in no order from `rest` on. */
  readonly lineCount: number
  readonly ranked: number
  readonly waiting: number
  /** A cursor: the page after this one, where lines are listed in no order. */
  readonly rest: string | null
  readonly open: OpenLine | null
}

export interface CallBody {
  readonly page: 'call'
  readonly id: string
  /** Null: no such call is known. */
  readonly explanation: Explanation | null
  /** Of a call in line. */
  readonly listed: ListedCall | null
  readonly history: CallHistory | null
}

/** A rule, as a row of the page Rules. */
export interface RuleRow {
  readonly spec: RuleSpec
  /** As in a rules file. */
  readonly yaml: string
  /** The fullest limit of the values that were looked at. */
  readonly tightest: Usage | null
  readonly waiting: number
}

export interface RulesBody {
  readonly page: 'rules'
  readonly rules: readonly RuleRow[]
  /** The rule that is edited; '' = a new one. */
  readonly edit: string | null
  /** What the forms begin with, by the link that was followed. */
  readonly filled: Readonly<Record<string, string>>
  readonly overrides: readonly OverrideInForce[]
  readonly pauses: readonly (Pause & { readonly waiting: number })[]
  readonly agents: readonly string[]
  readonly audit: readonly AuditEntry[]
  /** The audit is searched for an actor. */
  readonly auditBy: string
  readonly auditLimit: number
}

/** A scope value of a rule, on the page Now. */
export interface ValueRow {
  readonly value: string
  readonly usage: readonly Usage[]
  readonly depth: number
  /** The limit that the calls in its line wait for. */
  readonly limit: string | null
  readonly history: LineHistory | null
  /** What changes its limits for a time: an override. */
  readonly note: string | null
}

export interface RuleGroup {
  readonly spec: Pick<RuleSpec, 'name' | 'scope' | 'strategy'>
  readonly shared: boolean
  readonly values: readonly ValueRow[]
  /** How many lines of it are not shown. */
  readonly moreLines: number
}

export interface Attention {
  readonly kind: 'warn' | 'note'
  readonly text: string
  readonly detail: string
  readonly link: { readonly href: string; readonly text: string }
}

export interface AgentRow {
  readonly name: string
  /** Null: it has never been reported on. */
  readonly state: UpstreamStats | null
  readonly startingPerSecond: number
  readonly limited429: readonly number[]
}

export interface NowBody {
  readonly page: 'now'
  /** The last hour of the namespace, per minute. */
  readonly hour: readonly HistoryPoint[]
  readonly limitedBy: readonly LimitedBy[]
  readonly attention: readonly Attention[]
  readonly groups: readonly RuleGroup[]
  readonly agents: readonly AgentRow[]
  /** Calls that this server let in unchecked while Redis was away. */
  readonly unchecked: number
}

export const SPENT = ['usd', 'tokens'] as const

export interface BudgetsBody {
  readonly page: 'budgets'
  readonly by: Spender
  readonly unit: (typeof SPENT)[number]
  readonly rows: readonly Spend[]
  /** The row that is open, by its name. */
  readonly open: string | null
  readonly users: readonly Spend[]
  readonly models: readonly Spend[]
}

export interface LoginBody {
  readonly page: 'login'
  readonly failed: boolean
  readonly next: string
}

/** A page that cannot be shown. */
export interface FailedBody {
  readonly page: 'failed'
  readonly title: string
  readonly detail: string
}

export type Body = NowBody | LinesBody | CallBody | BudgetsBody | RulesBody | LoginBody | FailedBody

/** What the stream sends every second. */
export interface Snapshot {
  /** Of when it is, by Redis' clock. */
  readonly atMs: number
  readonly health: Health
  readonly body: Body
}

export interface PageModel extends Snapshot {
  /** Path and query: the state of the page. */
  readonly url: string
  readonly namespace: string
  readonly version: string
  /** Whether its reader may change something. */
  readonly mayChange: boolean
  /** Whether the reader has signed in, and can sign out. */
  readonly signedIn: boolean
  /** Whether there is a board of the queues. */
  readonly queues: boolean
}
