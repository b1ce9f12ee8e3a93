import { show } from '../call.js'
import { ConfigInvalid } from '../errors.js'
import { type LimitSpec, limitSchema } from '../rules/limit.js'

const DIRECT_SCOPE = 'limiter'

/** The limits of a limiter, checked. @throws ConfigInvalid naming field, value and bound */
export function checkLimits(specs: readonly LimitSpec[]): LimitSpec[] {
  return specs.map((spec) => {
    const parsed = limitSchema.safeParse(spec)
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    const path = issue?.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] as string] : (issue?.path ?? [])
    const what = issue?.code === 'unrecognized_keys' ? 'is not a known field' : issue?.message
    const got = path.length === 0 ? spec : (spec as Record<PropertyKey, unknown> | undefined)?.[path[0] as PropertyKey]
    throw new ConfigInvalid(`${[DIRECT_SCOPE, ...path].map(String).join('.')} ${what} (got ${show(got)})`)
  })
}

function positive(environment: NodeJS.ProcessEnv, name: string): number {
  const text = environment[name]
  const value = Number(text)
  if (text === undefined || text.trim() === '' || !(value > 0 && value <= 1e12)) {
    throw new ConfigInvalid(`${name} must be a number above 0, at most 1e12, where a limiter is made without limits of its own (got ${show(text)})`)
  }
  return value
}

/**
 * The limit that the environment says: a token bucket of TOKEN_BUCKET_SIZE requests that
 * TOKEN_REFILL_RATE come back to per second. @throws ConfigInvalid naming the variable
 */
export function limitOfEnvironment(environment: NodeJS.ProcessEnv): LimitSpec {
  const burst = positive(environment, 'TOKEN_BUCKET_SIZE')
  if (burst < 1) throw new ConfigInvalid(`TOKEN_BUCKET_SIZE must be at least 1, or no request could ever pass (got ${burst})`)
  return { requests: positive(environment, 'TOKEN_REFILL_RATE'), per: 'second', burst }
}
