import { type LimitSpec, limitName, limitSchema, MOST_LIMITS } from '../limits/limit.js'
import { ConfigInvalid } from '../model/errors.js'
import { twins } from '../policy/rule.js'
import { faultsOf, safeParse, show } from '../validation/faults.js'

/** One limit, checked. @throws ConfigInvalid naming field, value and bound */
function checkLimit(spec: unknown, where: string): LimitSpec {
  const parsed = safeParse(limitSchema, spec)
  if (!parsed.success) {
    const [fault] = faultsOf(parsed.error, spec, { whole: where, under: [where] })
    throw new ConfigInvalid(`${fault?.field} ${fault?.message} (got ${fault?.got})`)
  }
  if (parsed.data.concurrency !== undefined)
    throw new ConfigInvalid(`${where}.concurrency is for rules: a slot has to be given back, which a limiter by key cannot do; use tollgate.gate.acquire`)
  return parsed.data
}

/** The limits of a limiter, one or a list, checked. @throws ConfigInvalid naming field, value and bound */
export function checkLimiterLimits(spec: LimitSpec | readonly LimitSpec[]): LimitSpec[] {
  if (!Array.isArray(spec)) return [checkLimit(spec, 'limiter')]
  if (spec.length < 1 || spec.length > MOST_LIMITS) throw new ConfigInvalid(`limiter must have 1 to ${MOST_LIMITS} limits (got ${spec.length})`)
  const limits = spec.map((one: unknown, index) => checkLimit(one, `limiter.${index}`))
  const [twin] = twins(limits.map(limitName))
  if (twin !== undefined)
    throw new ConfigInvalid(`limiter.${twin.index} contradicts limiter.${twin.earlier}: both are ${twin.name}; keep one, or give them names`)
  return limits
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
 * The limit in the environment: a token bucket of TOKEN_BUCKET_SIZE requests, to which
 * TOKEN_REFILL_RATE come back each second. @throws ConfigInvalid naming the variable
 */
export function limitOfEnvironment(environment: NodeJS.ProcessEnv): LimitSpec {
  const burst = positive(environment, 'TOKEN_BUCKET_SIZE')
  if (burst < 1) throw new ConfigInvalid(`TOKEN_BUCKET_SIZE must be at least 1, or no request could ever pass (got ${burst})`)
  return { requests: positive(environment, 'TOKEN_REFILL_RATE'), per: 'second', burst }
}
