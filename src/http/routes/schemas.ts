import { z } from 'zod'
import { WAIT_REASONS, type WaitReason } from '../../model/wait-reason.js'
import { callName } from '../../validation/call.js'

/** Schemas of answers: they describe what the library returns, and check nothing. */
export const usageSchema = z.object({
  rule: z.string(),
  limit: z.string(),
  scopeValue: z.string(),
  unit: z.string(),
  amount: z.number(),
  windowMs: z.number().nullable(),
  capacity: z.number(),
  used: z.number(),
  claimed: z.number(),
  remaining: z.number(),
  resetMs: z.number(),
})

export const bindingSchema = z.object({ kind: z.string(), rule: z.string(), limit: z.string(), scopeValue: z.string(), unit: z.string() })

export const waitsForSchema = z.enum(Object.keys(WAIT_REASONS) as [WaitReason, ...WaitReason[]]).nullable()

export const explanationSchema = z.object({
  id: z.string(),
  state: z.enum(['waiting', 'woken', 'running', 'done', 'failed', 'expired', 'queued']),
  binding: bindingSchema.nullable(),
  position: z.number().int().nullable(),
  etaMs: z.number().nullable(),
  etaMaxMs: z.number().nullable(),
  waitsFor: waitsForSchema,
  todo: z.string().nullable(),
  reason: z.string().nullable(),
  usage: z.array(usageSchema),
  warning: z.string().optional(),
})

export const acceptedSchema = z.object({
  id: z.string(),
  outcome: z.enum(['run', 'wait', 'degrade']).optional(),
  etaMs: z.number().nullable().optional(),
  etaMaxMs: z.number().nullable().optional(),
  position: z.number().int().optional(),
  binding: bindingSchema.nullable().optional(),
  waitsFor: waitsForSchema.optional(),
})

export const answerSchema = z.object({
  allowed: z.boolean(),
  limitExceeded: z.string().nullable(),
  remaining: z.number().nullable(),
  resetAt: z.iso.datetime().nullable(),
  retryAfterMs: z.number().nullable(),
  usage: z.array(usageSchema),
  id: z.string().optional(),
})

export const idParams = z.strictObject({ id: callName })
export const nameParams = z.strictObject({ name: callName })
