import { lookup as lookUp } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { ConfigInvalid } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import type { WebhookSpec } from '../policy/alert.js'
import { show } from '../validation/faults.js'
import { signedHeaders } from './notice.js'

/** How long a webhook may take to answer. */
const TIMEOUT_MS = 10 * SECOND
const SECRET_NAME = /_(SECRET|KEY|TOKEN)$/

/** Addresses that a webhook does not reach: those of this machine, of private networks, of a cloud's metadata, and what is not for one host. */
const INTERNAL = new BlockList()
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const)
  INTERNAL.addSubnet(net, prefix, 'ipv4')
for (const [net, prefix] of [
  ['::', 96],
  ['64:ff9b::', 96],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  INTERNAL.addSubnet(net, prefix, 'ipv6')

export function isInternalAddress(address: string): boolean {
  return INTERNAL.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** Looks a name up, and answers its public addresses alone: checked where the connection is made, a name cannot change its address in between. */
const publicLookup: LookupFunction = (hostname, options, done) => {
  lookUp(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return done(error, [])
    const allowed = addresses.filter(({ address }) => !isInternalAddress(address))
    const [first] = allowed
    if (first === undefined) return done(Object.assign(new Error(`${hostname} has no public address`), { code: 'EACCES' }), [])
    if (options.all === true) done(null, allowed)
    else done(null, first.address, first.family)
  })
}

/** @throws ConfigInvalid where its secret is missing, or its name is not that of a secret */
function secretOf(name: string, { secretEnv }: WebhookSpec, environment: NodeJS.ProcessEnv): string {
  // Rules may come from elsewhere: they must not be able to sign with any variable of this process.
  if (!SECRET_NAME.test(secretEnv))
    throw new ConfigInvalid(`webhooks.${name}.secretEnv: must have a name that ends in _SECRET, _KEY or _TOKEN (got ${show(secretEnv)})`)
  const secret = environment[secretEnv]?.trim() ?? ''
  if (secret === '') throw new ConfigInvalid(`webhooks.${name}.secretEnv: ${secretEnv} is not set in the environment`)
  return secret
}

/** By which connections messages leave: `guarded` reaches public addresses alone. Here and not at the top: few processes have webhooks. */
async function openConnections() {
  const { Agent, fetch } = await import('undici')
  return {
    fetch,
    guarded: new Agent({ connect: { lookup: publicLookup, timeout: TIMEOUT_MS } }),
    open: new Agent({ connect: { timeout: TIMEOUT_MS } }),
  }
}

/**
 * Posts messages to webhooks, signed.
 *
 * The URL comes from the rules, which may come from elsewhere, so it reaches public addresses over https alone: not this machine, private networks or the
 * metadata of a cloud, whatever name they have. `allowedHosts` names the exceptions. A redirect is not followed, and of the answer the status alone is read.
 */
export class WebhookSender {
  private connections: ReturnType<typeof openConnections> | undefined

  constructor(
    private readonly allowedHosts: readonly string[],
    private readonly environment: NodeJS.ProcessEnv = process.env,
  ) {}

  /** @throws where it was not taken: tried again later */
  async send(name: string, webhook: WebhookSpec, id: string, body: string): Promise<void> {
    const { protocol, hostname } = new URL(webhook.url)
    const host = hostname.replace(/^\[(.*)\]$/, '$1')
    const isAllowed = this.allowedHosts.includes(host)
    if (!isAllowed && protocol !== 'https:')
      throw new ConfigInvalid(`webhooks.${name}.url: must be https, or its host be one of webhookHosts (got ${protocol})`)
    if (!isAllowed && isIP(host) !== 0 && isInternalAddress(host))
      throw new ConfigInvalid(`webhooks.${name}.url: must not be an address of this machine or of a private network; webhookHosts names exceptions`)
    const headers = signedHeaders(id, body, secretOf(name, webhook, this.environment), Date.now())
    this.connections ??= openConnections()
    const { fetch, guarded, open } = await this.connections
    const dispatcher = isAllowed ? open : guarded
    const response = await fetch(webhook.url, { method: 'POST', headers, body, dispatcher, redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS) })
    await response.body?.cancel()
    if (!response.ok) throw new Error(`webhook ${name} answered ${response.status}`)
  }

  async close(): Promise<void> {
    const made = await this.connections
    if (made !== undefined) await Promise.all([made.guarded.destroy(), made.open.destroy()])
  }
}
