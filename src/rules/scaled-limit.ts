import { MAX_AMOUNT } from '../call.js'
import { type LimitSpec, unitOf } from './limit.js'

/**
 * A limit, and the burst that it names, times a number. Where less than one call would be
 * left, one is: an override that shall close a rule says limits of 0.
 */
export function scaleLimit(spec: LimitSpec, times: number): LimitSpec {
  const unit = unitOf(spec)
  const perCall = unit === 'requests' || unit === 'points'
  const scale = (value: number, least: number) => (value === 0 ? 0 : Math.min(MAX_AMOUNT, Math.max(least, value * times)))
  const value = spec[unit] ?? 0
  if (unit === 'concurrency') return { ...spec, concurrency: Math.floor(scale(value, 1)) }
  // A bucket may fill more slowly than with one call per window, but must hold one.
  const bucket = spec.algorithm === undefined || spec.algorithm === 'token_bucket' || spec.algorithm === 'leaky_bucket'
  const scaled = { ...spec, [unit]: scale(value, perCall && !bucket ? Math.min(1, value) : 0) }
  return spec.burst === undefined ? scaled : { ...scaled, burst: scale(spec.burst, perCall ? Math.min(1, spec.burst) : 0) }
}
