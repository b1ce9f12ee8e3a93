/** One minute or hour of a rule, an agent, a line or the namespace. Times are ms since the epoch, by Redis' clock. */
export interface HistoryPoint {
  /** When the minute or hour begins. Points are in order, without gaps, and the last one may not be over. */
  readonly atMs: number
  /** Calls that came: enqueued (also refused ones) or asked at the gate. */
  readonly arrived: number
  /** Calls that started, or were admitted by the gate. */
  readonly started: number
  /** How many stood in line: the mean, by the time of which it is known; null where no process dispatched. */
  readonly depth: number | null
  readonly deepest: number | null
  /** The integral of the depth over time: ms of waiting, of all calls together. */
  readonly waitingMs: number
  /** The age of the longest waiting call that was seen; null where none waited. */
  readonly oldestMs: number | null
  /** From enqueue to start, of the calls that started; upper bounds of buckets, at most 19 % too high. Null where none started. */
  readonly waitP50Ms: number | null
  readonly waitP95Ms: number | null
  /** Calls that ended: done; failed for good or in one attempt; refused (never started); expired by their deadline. */
  readonly done: number
  readonly failed: number
  readonly refused: number
  readonly expired: number
  /** Calls that their agent sent back with "not now" (429). */
  readonly limited429: number
  /** Of the calls that ended. */
  readonly estimatedTokens: number
  readonly tokens: number
  readonly usd: number
}

export interface HistoryQuery {
  /** Default: an hour (step minute), or a day (step hour), before `toMs`. */
  readonly fromMs?: number | undefined
  /** Default: now. */
  readonly toMs?: number | undefined
  /** minute: kept for 24 hours. hour: kept for 30 days. Default: minute. */
  readonly step?: 'minute' | 'hour' | undefined
}

/** How much of the waiting is due to one limit. */
export interface LimitedBy {
  readonly rule: string
  readonly limit: string
  /** The scope value whose line is the longest; null where nothing waits now. */
  readonly scopeValue: string | null
  /** Of all waiting time, 0 to 1. */
  readonly share: number
  /** The integral of the depth of its lines over time. */
  readonly waitingMs: number
  /** Calls that wait for it now. */
  readonly calls: number
  /** Since when calls have waited for it without a break; null where none waits now. */
  readonly sinceMs: number | null
  /** Whether all tenants share it: its rule counts by global, agent, endpoint or model alone. */
  readonly shared: boolean
  /** Who waits now, most first, at most 8; estimated from a sample where more than 200 wait. Calls without an org count for their team, else user, else '–'. */
  readonly who: readonly { readonly org: string; readonly calls: number }[]
}

/** A line as the last look of the dispatcher found it. */
export interface LineNow {
  readonly rule: string
  readonly scopeValue: string
  /** What its first call waits for; null where that is not known yet. */
  readonly limit: string | null
  readonly depth: number
  readonly oldestMs: number | null
  readonly sinceMs: number
  readonly who: readonly { readonly org: string; readonly calls: number }[]
}

/** The last look of the dispatcher at all lines; null where none has looked within a minute. */
export interface LinesNow {
  readonly atMs: number
  /** Calls in all lines, and how many lines there are. */
  readonly waiting: number
  readonly lineCount: number
  /** The deepest lines, at most 50. */
  readonly lines: readonly LineNow[]
}

export interface SpendQuery {
  readonly by: 'org' | 'team' | 'user' | 'model'
  /** Default: usd. */
  readonly unit?: 'usd' | 'tokens' | undefined
  /** The most rows; default 20, at most 200. */
  readonly limit?: number | undefined
}

/** What one org, team, user or model spends, in `unit`. Days and months are those of UTC. */
export interface Spend {
  readonly name: string
  readonly today: number
  readonly month: number
  /** Per day: the mean of the last 7 days that have figures, today as far as it has gone. */
  readonly pacePerDay: number
  /** What the month will come to at that pace; and the range that it will be in, in 8 of 10 cases. */
  readonly monthAtPace: number
  readonly monthRange: readonly [low: number, high: number]
  /** Its tightest budget in this unit: a limit with a window of a day or more of a rule that counts by this alone; null where there is none. */
  readonly budget: {
    readonly rule: string
    readonly limit: string
    readonly amount: number
    readonly used: number
    readonly windowMs: number
    /** When the window of a calendar or fixed window ends; null for buckets and sliding windows. */
    readonly endsMs: number | null
    /** Used, as a share of what an even pace would have used by now; null where the window has no end. */
    readonly paceFactor: number | null
    /** When it is spent, at the pace; null where that is not before its window ends, or never. */
    readonly runsOutMs: number | null
    /** The earliest and latest time, in 8 of 10 cases; null as `runsOutMs`. The latest is null where it may last. */
    readonly runsOutRange: readonly [earliest: number, latest: number | null] | null
  } | null
  readonly calls: number
  /** Tokens of this month, estimated and actual, and the share (0 to 1) of calls that used more than their estimate. */
  readonly estimatedTokens: number
  readonly actualTokens: number
  readonly aboveEstimate: number
  /** The last 30 days, oldest first. */
  readonly days: readonly { readonly atMs: number; readonly amount: number }[]
}

/** What a call went through. */
export interface CallEvent {
  readonly atMs: number
  /**
   * enqueued · waiting (got a place in line; without a `position`: went to another line) · woken · started · part (settled in part) · answered (the agent's headers) · returned (the
   * agent's "not now") · settled · done · failed · expired · refused
   */
  readonly what: 'enqueued' | 'waiting' | 'woken' | 'started' | 'part' | 'answered' | 'returned' | 'settled' | 'done' | 'failed' | 'expired' | 'refused'
  /** waiting, refused: what for. */
  readonly rule?: string | undefined
  readonly limit?: string | undefined
  readonly scopeValue?: string | undefined
  /** waiting: how many stood before it, and its estimated wait. */
  readonly position?: number | undefined
  readonly etaMs?: number | null | undefined
  /** started: the number of the attempt. */
  readonly attempt?: number | undefined
  /** part, settled: by unit. */
  readonly cost?: Readonly<Record<string, number>> | undefined
  /** answered, returned: the rate-limit headers of the agent. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** failed, returned: why. */
  readonly why?: string | undefined
}

/** A limit as it stood right after a call was charged. */
export interface LimitAtStart {
  readonly rule: string
  readonly limit: string
  readonly scopeValue: string
  readonly unit: string
  readonly capacity: number
  readonly used: number
  readonly claimed: number
}

/** The life of a call, as long as its job is kept. */
export interface CallHistory {
  readonly id: string
  /** In order of time, at most 20: where there were more, those of its begin and the last ones. */
  readonly events: readonly CallEvent[]
  /** How many were left out. */
  readonly leftOut: number
  /** At its last start; empty where it has not started. */
  readonly limits: readonly LimitAtStart[]
  readonly attempts: number
  readonly returns: number
  /** By unit. */
  readonly estimate: Readonly<Record<string, number>>
  /** By unit; null where it has not been settled. */
  readonly actual: Readonly<Record<string, number>> | null
}

/** What a rule decided since `sinceMs`, in all processes of the namespace. */
export interface RuleStats {
  readonly rule: string
  readonly sinceMs: number
  /** Decisions on calls that the rule covers, at the gate and the front door. */
  readonly checks: number
  /** Decisions where the rule had no room, in all and by limit. */
  readonly exceeded: number
  readonly exceededByLimit: Readonly<Record<string, number>>
  /** exceeded / checks; 0 before any check. */
  readonly hitRate: number
  /** The mean of what its limits had left after a decision, by limit, in its unit; looked at in the first 200 decisions of two seconds and process, and in some of the further ones. */
  readonly averageRemaining: Readonly<Record<string, number>>
  /** Decisions that Redis failed to give, and calls that were let in without one. */
  readonly storeErrors: number
  readonly unchecked: number
  /** How long decisions took, as their callers saw it; null before any. */
  readonly checkMeanMs: number | null
  readonly checkP95Ms: number | null
}

/** Who was refused or had to wait most; counts are at most `atMost` too high. */
export interface Violations {
  readonly user: readonly Violation[]
  readonly ip: readonly Violation[]
  readonly endpoint: readonly Violation[]
}

export interface Violation {
  readonly name: string
  readonly count: number
  readonly atMost: number
}

/** `tollgate.history`. Everything is bounded: answers, and the memory of Redis (docs/operations.md). Without a Redis it is of this process alone. */
export interface History {
  /** @throws RequestInvalid */
  namespace(query?: HistoryQuery): Promise<readonly HistoryPoint[]>
  rule(name: string, query?: HistoryQuery): Promise<readonly HistoryPoint[]>
  agent(name: string, query?: HistoryQuery): Promise<readonly HistoryPoint[]>
  /** @param line `<rule>/<scope value>`, as `lines()` names it. The 2 deepest lines of each rule have a history */
  line(line: string, query?: HistoryQuery): Promise<readonly HistoryPoint[]>
  /** The names that have a history: agents and lines, the last written first. */
  known(): Promise<{ readonly rules: readonly string[]; readonly agents: readonly string[]; readonly lines: readonly string[] }>
  /** Which limits hold calls up, by their share of the waiting time. @param overMs default: an hour; at most a day */
  limitedBy(query?: { overMs?: number | undefined }): Promise<readonly LimitedBy[]>
  now(): Promise<LinesNow | null>
  /** Top spenders of this month, most first. */
  spend(query: SpendQuery): Promise<readonly Spend[]>
  /** @throws CALL_UNKNOWN, REDIS_REQUIRED */
  call(id: string): Promise<CallHistory>
}
