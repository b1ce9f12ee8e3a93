import type { Answer } from '../admission/answer.js'
import type { Usage } from '../model/decision.js'
import { retryAfterSeconds } from './problem.js'

const SECOND = 1000

/** A name as a structured field writes it (RFC 9651): names of rules and limits are ASCII without quotes. */
function sfString(name: string): string {
  return `"${name.replace(/[^\x20-\x7e]/g, '').replace(/["\\]/g, '\\$&')}"`
}

/** A number as a structured field integer; decimals are cut. */
function sfInteger(value: number): number {
  return Math.min(999_999_999_999_999, Math.max(0, Math.floor(value)))
}

/** Units that the draft knows; tokens and dollars go out as headers of their own. */
function quotaUnit({ unit }: Usage): string | undefined {
  return unit === 'requests' ? '' : unit === 'concurrency' ? ';qu="concurrent-requests"' : undefined
}

/** The requests limit with the smallest share left: what `X-RateLimit-*` tell. */
function tightestRequests(usage: readonly Usage[]): Usage | undefined {
  const share = ({ remaining, capacity }: Usage) => (capacity === 0 ? 0 : remaining / capacity)
  return usage.filter(({ unit }) => unit === 'requests').sort((one, other) => share(one) - share(other))[0]
}

/**
 * The headers about limits of an answer: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), `X-RateLimit-Limit`, `-Remaining`
 * and `-Reset` of the tightest limit of requests, `x-ratelimit-*-tokens`, and `Retry-After` of a refusal.
 * @param partition a pseudonym of the client, base64; the draft's `pk`
 */
export function rateLimitFields(
  { allowed, usage, retryAfterMs }: Pick<Answer, 'allowed' | 'usage' | 'retryAfterMs'>,
  partition?: string,
): Record<string, string> {
  const fields: Record<string, string> = {}
  const named = usage.filter(
    ({ rule, unit, windowMs }) => !rule.startsWith('~block') && quotaUnit({ unit } as Usage) !== undefined && (windowMs === null || windowMs > 0),
  )
  const pk = partition === undefined ? '' : `;pk=:${partition}:`
  if (named.length > 0) {
    const nameOf = ({ rule, limit }: Usage) => sfString(rule.startsWith('~~') ? limit : `${rule}/${limit}`)
    fields['ratelimit-policy'] = named
      .map((one) => {
        const window = one.windowMs === null ? '' : `;w=${Math.max(1, Math.round(one.windowMs / SECOND))}`
        return `${nameOf(one)};q=${sfInteger(one.amount)}${quotaUnit(one)}${window}${pk}`
      })
      .join(', ')
    fields['ratelimit'] = named
      .map((one) => {
        // Retry-After must not be earlier than `t`: a bucket passes the next call long before it is full.
        const seconds = Math.min(
          Math.ceil(one.resetMs / SECOND),
          allowed || retryAfterMs === null ? Number.POSITIVE_INFINITY : Number(retryAfterSeconds(retryAfterMs)),
        )
        const reset = one.windowMs === null || seconds === 0 ? '' : `;t=${seconds}`
        return `${nameOf(one)};r=${sfInteger(one.remaining)}${reset}${pk}`
      })
      .join(', ')
  }
  const requests = tightestRequests(usage)
  if (requests !== undefined) {
    fields['x-ratelimit-limit'] = String(sfInteger(requests.amount))
    fields['x-ratelimit-remaining'] = String(sfInteger(requests.remaining))
    fields['x-ratelimit-reset'] = String(Math.ceil(requests.resetMs / SECOND))
  }
  const tokens = usage.find(({ unit }) => unit === 'tokens')
  if (tokens !== undefined) {
    fields['x-ratelimit-limit-tokens'] = String(sfInteger(tokens.amount))
    fields['x-ratelimit-remaining-tokens'] = String(sfInteger(tokens.remaining))
    fields['x-ratelimit-reset-tokens'] = `${Math.ceil(tokens.resetMs)}ms`
  }
  if (!allowed && retryAfterMs !== null) fields['retry-after'] = retryAfterSeconds(retryAfterMs)
  return fields
}
