import type { IncomingHttpHeaders } from 'node:http'
import { API_KEY_PREFIX, type ApiKeys } from '../../administration/api-keys.js'
import type { Call } from '../../model/call.js'
import { TollgateError } from '../../model/errors.js'
import { plainAddress } from '../../validation/address.js'
import { type Access, requestKey } from '../access.js'

/** The client of a call, as rules count it. */
export interface Identity {
  readonly of: Pick<Call, 'org' | 'team' | 'user' | 'ip'>
  /** Tells clients apart whose calls may join each other. */
  readonly name: string
  /** The headers with the client's own key for the agent; empty where the key is one of Tollgate's. */
  readonly ownKey: IncomingHttpHeaders
}

function namedHeader(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/**
 * Finds out who makes a call: by headers of the trusted proxy, by an issued key, by a configured key, or, at a server without keys, as anyone.
 * @throws UNAUTHENTICATED, FORBIDDEN
 */
export async function identify(access: Access, keys: ApiKeys, headers: IncomingHttpHeaders, address: string, agent: string): Promise<Identity> {
  const ip = plainAddress(address)
  if (access.isProxy(headers)) {
    const named = { org: 'x-tollgate-org', team: 'x-tollgate-team', user: 'x-tollgate-user', ip: 'x-tollgate-ip' } as const
    const of = Object.fromEntries(
      Object.entries(named).flatMap(([field, name]) => (namedHeader(headers, name) === undefined ? [] : [[field, namedHeader(headers, name)]])),
    )
    return { of, name: `proxy ${JSON.stringify(of)}`, ownKey: ownKeyOf(headers) }
  }
  const key = requestKey(headers)
  if (key?.startsWith(API_KEY_PREFIX) === true) {
    const found = await keys.find(key)
    if (found === null) throw new TollgateError('UNAUTHENTICATED', 'the key is not one that was issued, was revoked, or has ended')
    if (found.agents !== undefined && !found.agents.includes(agent)) throw new TollgateError('FORBIDDEN', `the key is not for the agent ${agent}`)
    const { org, team, user } = found
    return { of: { org, team, user, ip }, name: `key ${found.id}`, ownKey: {} }
  }
  if (key !== undefined && access.mayCall(key)) return { of: { ip }, name: 'producer', ownKey: {} }
  if (access.keyed) throw new TollgateError('UNAUTHENTICATED', key === undefined ? 'a key is needed' : 'the key is not one that may call agents')
  return { of: { ip }, name: `address ${ip}`, ownKey: ownKeyOf(headers) }
}

function ownKeyOf({ authorization, 'x-api-key': apiKey }: IncomingHttpHeaders): IncomingHttpHeaders {
  return { authorization, 'x-api-key': apiKey }
}
