import { z } from 'zod'
import { DEFAULTS } from './defaults.js'

/** How what an agent allows is learned from its refusals; of `Tollgate.open({ upstream })`. */
export interface UpstreamOptions {
  /** By what a refusal multiplies the capacity; default 0.5. */
  reduceFactor?: number | undefined
  /** By what each step of recovery multiplies it; default 1.1. */
  recoverFactor?: number | undefined
  /** How far the steps of recovery are apart; default 30 s. */
  recoverEveryMs?: number | undefined
  /** Whether one call goes ahead of all others when a block ends; default true. */
  canary?: boolean | undefined
  /** How long that one is waited for before another goes; default 60 s. */
  canaryLeaseMs?: number | undefined
}

export type Upstream = Readonly<Required<{ [Key in keyof UpstreamOptions]: NonNullable<UpstreamOptions[Key]> }>>

export const upstreamSchema = z
  .strictObject({
    reduceFactor: z.number().min(0.01).max(0.99).default(DEFAULTS.upstream.reduceFactor),
    recoverFactor: z.number().min(1.01).max(10).default(DEFAULTS.upstream.recoverFactor),
    recoverEveryMs: z.number().int().min(10).max(86_400_000).default(DEFAULTS.upstream.recoverEveryMs),
    canary: z.boolean().default(DEFAULTS.upstream.canary),
    canaryLeaseMs: z.number().int().min(1000).max(3_600_000).default(DEFAULTS.upstream.canaryLeaseMs),
  })
  .optional()

/** What carries news: Redis, this process' memory, or a NATS. */
export const busSchema = z.string().regex(/^(redis|memory|(nats|tls):\/\/\S+)$/, 'must be redis, memory or a nats:// or tls:// URL')
