import { z } from 'zod'
import { MINUTE, SECOND } from '../model/time.js'

const MEGABYTE = 1_048_576
const whole = (least: number, most: number) => z.coerce.number().int().min(least).max(most)
const ms = whole(0, 86_400_000)
const key = z
  .string()
  .min(16, 'must have at least 16 characters')
  .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces')
/** A list, also as text with commas in between. */
const listOf = <Item extends z.ZodType<string>>(item: Item) =>
  z.preprocess((value) => (typeof value === 'string' ? value.split(',').map((one) => one.trim()) : value), z.array(item).max(1000)).default([])

/** What a user may set about the server; each has its default. */
export const serverSettings = z.object({
  host: z.string().min(1).default('127.0.0.1'),
  port: whole(0, 65_535).default(8787),
  /** Keys of clients that enqueue and check calls, and call agents. */
  producerKeys: listOf(key),
  /** Keys that may see everything, the pages too, and change nothing. */
  viewerKeys: listOf(key),
  /** Keys of clients that may also change the policy. */
  adminKeys: listOf(key),
  /** A proxy that sends it as X-Tollgate-Secret is believed whom it names in X-Tollgate-Org, -Team, -User and -IP. */
  proxySecret: key.optional(),
  /** The hosts that a request may name besides those of loopback; default: any, where there are keys. */
  allowedHosts: listOf(z.string().min(1)),
  maxBodyBytes: whole(1024, 1024 * MEGABYTE).default(10 * MEGABYTE),
  maxHeaderBytes: whole(1024, MEGABYTE).default(32 * 1024),
  /** Clients that wait here, for a call or its result. */
  maxHeld: whole(1, 1_000_000).default(10_000),
  maxRequestsPerSecond: whole(1, 1_000_000).default(10_000),
  /** How long a client waits for the start of its call that does not say so itself. */
  patienceMs: ms.default(10 * MINUTE),
  /** How often a client that waits for a stream gets a comment. */
  heartbeatMs: whole(100, 600_000).default(10 * SECOND),
  /** For how long the answer to a client that is gone is read on, for its usage; 0 = the call is aborted. */
  drainMs: ms.default(0),
  /** How long a call with an idempotency key waits for its client to come back. */
  rejoinMs: ms.default(10 * SECOND),
  /** How long, and up to how many bytes, the answer to a call with an idempotency key is kept. */
  replayMs: ms.default(MINUTE),
  replayBytes: whole(0, 64 * MEGABYTE).default(MEGABYTE),
  idempotencyHeader: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,64}$/, 'must be the name of a header')
    .transform((name) => name.toLowerCase())
    .default('idempotency-key'),
  /** Where other servers of the namespace reach this one, for clients that come back to another one with their idempotency key; default: its own address. */
  advertise: z
    .string()
    .regex(/^https?:\/\/[^\s/?#@]+$/, 'must be the origin of this server, such as http://10.0.0.5:8787')
    .optional(),
  /** How often a call is tried whose agent fails (5xx, or no connection). */
  attempts: whole(1, 1000).default(1),
  /** The most output tokens of a call that sets no maximum itself. */
  outputTokens: whole(0, 1_000_000).default(512),
  /** How long an agent may take to begin its answer, and between two parts of it. */
  headersTimeoutMs: whole(1000, 86_400_000).default(15 * MINUTE),
  /** How long a client may take no part of its answer. */
  stallMs: whole(1000, 86_400_000).default(MINUTE),
  /** How long running calls may take when the server closes. */
  shutdownMs: ms.default(30 * SECOND),
})

export type ServerSettings = Readonly<z.infer<typeof serverSettings>>
