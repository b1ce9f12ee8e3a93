import { unescapePart } from '../policy/match.js'

/** Numbers by name. A name that begins with ^ is the highest of what was given; of all others the sum is kept. */
export type Numbers = Map<string, number>

/**
 * The names of the numbers of a point. Each stands a thousand times in a series, so they are short. `q:`, `x:` and the like go on with the name of a limit
 * or an org, `h` and `c` with the number of a bucket.
 */
export const NUMBER = {
  arrived: 'a',
  started: 's',
  done: 'd',
  failed: 'f',
  refused: 'r',
  expired: 'e',
  returned: 'l',
  waitBucket: 'h',
  waiting: 'q',
  /** For how long the depth was known. */
  seenMs: 'z',
  deepest: '^d',
  oldestMs: '^o',
  waitingOf: 'q:',
  waitingBy: 'o:',
  estimatedTokens: 'te',
  tokens: 'ta',
  usd: 'u',
  calls: 'n',
  aboveEstimate: 'b',
  checks: 'n',
  exceeded: 'x',
  exceededOf: 'x:',
  remainingOf: 'm:',
  remainingLooks: 'k:',
  storeErrors: 'y',
  unchecked: 'v',
  checkMicros: 'ct',
  checkBucket: 'c',
  /** When a call started last, in ms since the epoch. */
  lastStart: '^s',
} as const

/** Waiting time is counted in tenths of a second. */
export const WAITING_MS = 100

export function addNumber(to: Numbers, name: string, amount: number): void {
  const known = to.get(name)
  if (known === undefined) to.set(name, amount)
  else to.set(name, name.startsWith('^') ? Math.max(known, amount) : known + amount)
}

export function addAll(to: Numbers, from: Numbers): void {
  for (const [name, amount] of from) addNumber(to, name, amount)
}

/** The last names that were escaped: those of limits occur in one call after the other. */
const ESCAPED_AT_MOST = 10_000
let escapedNames = new Map<string, string>()

/** A name as a part of that of a number: limits, orgs. */
export function escaped(name: string): string {
  let text = escapedNames.get(name)
  if (text === undefined) {
    if (escapedNames.size >= ESCAPED_AT_MOST) escapedNames = new Map()
    // Half of a surrogate pair has no form in UTF-8.
    text = encodeURIComponent(name.toWellFormed()).replaceAll('%2F', '/')
    escapedNames.set(name, text)
  }
  return text
}

/** The numbers whose names begin with a prefix that ends in a colon, by what follows. */
export function numbersAfter(numbers: Numbers, prefix: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const [name, amount] of numbers) if (name.startsWith(prefix)) found.set(unescapePart(name.slice(prefix.length)), amount)
  return found
}

/** As `lua/add-history.lua` takes it. */
export function writeNumbers(numbers: Numbers): string {
  let text = ''
  for (const [name, amount] of numbers) if (Number.isFinite(amount)) text += `${text === '' ? '' : '|'}${name}=${amount}`
  return text
}

/** A point and its slot: how many lengths of its resolution it is after the epoch; of the resolution t its time. */
export interface SeriesPoint {
  readonly slot: number
  readonly numbers: Numbers
}

/** A point as it is stored; undefined where another version wrote something else. */
export function readPoint(text: string): SeriesPoint | undefined {
  const [slot = '', ...parts] = text.split('|')
  if (!/^\d{1,16}$/.test(slot)) return undefined
  const numbers: Numbers = new Map()
  for (const part of parts) {
    const at = part.indexOf('=')
    const amount = Number(part.slice(at + 1))
    if (at > 0 && Number.isFinite(amount)) numbers.set(part.slice(0, at), amount)
  }
  return { slot: Number(slot), numbers }
}

/** Four buckets to each doubling: the upper bound of a bucket is at most 19 % above what is in it. The last is above a week in ms. */
const PER_DOUBLING = 4
const LAST_BUCKET = 120
export const BUCKETS = LAST_BUCKET + 1

/** @param amount at least 0; below 1 it is in the first bucket */
export function bucketOf(amount: number): number {
  return amount <= 1 ? 0 : Math.min(LAST_BUCKET, Math.ceil(Math.log2(amount) * PER_DOUBLING))
}

/** The upper bound of the bucket in which a quantile (0 to 1) lies; null where nothing was counted. */
export function quantile(numbers: Numbers, prefix: 'h' | 'c', share: number): number | null {
  const buckets: [number, number][] = []
  let total = 0
  for (const [name, count] of numbers) {
    if (!name.startsWith(prefix) || !/^\d+$/.test(name.slice(1))) continue
    buckets.push([Number(name.slice(1)), count])
    total += count
  }
  if (total === 0) return null
  let left = share * total
  for (const [bucket, count] of buckets.sort(([one], [other]) => one - other)) {
    left -= count
    if (left <= 0) return 2 ** (bucket / PER_DOUBLING)
  }
  return null
}
