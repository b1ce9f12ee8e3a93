import { createHmac } from 'node:crypto'
import { rejection } from '../admission/rejection.js'
import type { Grant } from '../gate/grant.js'
import type { Call } from '../model/call.js'
import type { Cost } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { ConfigInvalid, type TollgateError } from '../model/errors.js'
import type { Tollgate } from '../tollgate.js'
import { countedAddress } from '../validation/address.js'
import { clientAddress } from './client-address.js'
import { problemOf } from './problem.js'
import { rateLimitFields } from './rate-limit-fields.js'

/** What every middleware can be told. @template Request the request of the framework */
export interface LimitOptions<Request> {
  /** The agent of the calls that requests become: what rules match. Default 'http'. */
  agent?: string | undefined
  /** Whose request it is. Where it names no user, org or team the request is of its address. */
  identify?: ((request: Request) => Identified | Promise<Identified>) | undefined
  /** Requests that are not counted. */
  skip?: ((request: Request) => boolean | Promise<boolean>) | undefined
  /** What the request costs; default one request. */
  cost?: ((request: Request) => Cost | Promise<Cost>) | undefined
  /** The body of a refusal, instead of the problem of RFC 9457. */
  refusal?: ((error: TollgateError, request: Request) => unknown) | undefined
  /** How many proxies stand before this server, whose X-Forwarded-For is believed; default false: none. */
  trustProxy?: number | false | undefined
  /** Addresses of IPv6 count by their network with this prefix; default 64. */
  ipv6Prefix?: number | undefined
  /** Names the client in `RateLimit` by an HMAC under this secret (`pk`), never by its value; default: not at all. */
  partitionSecret?: string | undefined
}

type Identified = Pick<Call, 'user' | 'team' | 'org' | 'ip' | 'keys'> | undefined

/** What a framework knows of a request. */
export interface PlainRequest {
  readonly method: string
  /** With or without a query. */
  readonly url: string
  readonly peer: string | undefined
  readonly forwarded: string | undefined
}

export type Gated =
  | { readonly passes: true; readonly fields: Readonly<Record<string, string>>; readonly ended: () => void }
  | { readonly passes: false; readonly fields: Readonly<Record<string, string>>; readonly status: number; readonly type: string; readonly body: string }

const FREE: Gated = { passes: true, fields: {}, ended: () => {} }
const MOST_ENDPOINT = 256

/** Puts the requests of a server through the gate; the middlewares differ in how they read requests and write answers. */
export class RequestGate<Request> {
  /** @throws ConfigInvalid */
  constructor(
    private readonly tollgate: Tollgate,
    private readonly options: LimitOptions<Request>,
  ) {
    const { trustProxy = false, ipv6Prefix = DEFAULTS.ipv6Prefix } = options
    if (trustProxy !== false && !(Number.isInteger(trustProxy) && trustProxy >= 0))
      throw new ConfigInvalid(`trustProxy: must be the number of proxies before this server, or false (got ${String(trustProxy)})`)
    if (!(Number.isInteger(ipv6Prefix) && ipv6Prefix >= 1 && ipv6Prefix <= 128)) throw new ConfigInvalid(`ipv6Prefix: must be 1 to 128 (got ${ipv6Prefix})`)
  }

  async pass(request: Request, plain: PlainRequest): Promise<Gated> {
    if ((await this.options.skip?.(request)) === true) return FREE
    const call = await this.callOf(request, plain)
    const grant = await this.tollgate.gate.admit(call)
    const fields = rateLimitFields(grant, this.partition(call))
    if (grant.allowed) return { passes: true, fields, ended: () => settle(grant) }
    if (grant.decision.outcome === 'run') return FREE
    const error = rejection(grant.decision)
    const problem = problemOf(error)
    const own = this.options.refusal?.(error, request)
    const body = own === undefined ? problem : own
    const type = own === undefined ? 'application/problem+json' : typeof own === 'string' ? 'text/plain; charset=utf-8' : 'application/json'
    return { passes: false, fields, status: problem.status, type, body: typeof body === 'string' ? body : JSON.stringify(body) }
  }

  private async callOf(request: Request, { url, peer, forwarded }: PlainRequest): Promise<Call> {
    const { agent = 'http', identify, cost, trustProxy = false, ipv6Prefix = DEFAULTS.ipv6Prefix } = this.options
    const given = (await identify?.(request)) ?? {}
    const named = given.user ?? given.org ?? given.team
    const address = given.ip ?? clientAddress(peer, forwarded, trustProxy)
    // A user is not limited by the address that others share with him.
    const ip = named === undefined && address !== undefined ? countedAddress(address, ipv6Prefix) : undefined
    const client = named ?? ip
    const endpoint = (url.split('?')[0] ?? '/').replace(/\p{Cc}/gu, '').slice(0, MOST_ENDPOINT) || '/'
    return {
      agent,
      endpoint,
      ...given,
      ip,
      keys: { ...(client === undefined ? {} : { client }), ...given.keys },
      cost: (await cost?.(request)) ?? { requests: 1 },
    }
  }

  private partition({ keys }: Call): string | undefined {
    const { partitionSecret } = this.options
    const client = keys?.['client']
    return partitionSecret === undefined || client === undefined
      ? undefined
      : createHmac('sha256', partitionSecret).update(client).digest().subarray(0, 12).toString('base64')
  }
}

/** The answer has left: slots are given back. */
function settle(grant: Grant): void {
  // A Redis that is away frees the slots when their leases end.
  grant.settle().catch(() => {})
}
