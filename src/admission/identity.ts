import { createHash } from 'node:crypto'
import type { Call } from '../model/call.js'
import { TollgateError } from '../model/errors.js'
import { plainAddress } from '../validation/address.js'
import { show } from '../validation/faults.js'

/** Bits enough that no two calls share an identity by chance or on purpose. */
const LENGTH = 22

/**
 * Who a call is: its agent and all that rules can count it by. Two calls of one id and one identity are one call, whatever their cost, payload,
 * priority or mode; two of one id and different identities are two calls, and the second one is refused.
 */
export function identityOf({ agent, endpoint, model, user, team, org, ip, keys = {} }: Call): string {
  const names = Object.keys(keys).sort()
  const parts = [agent, endpoint, model, user, team, org, ip === undefined ? undefined : plainAddress(ip)]
  const text = JSON.stringify([parts.map((part) => part ?? null), names.map((name) => [name, keys[name]])])
  return createHash('sha256').update(text).digest('base64url').slice(0, LENGTH)
}

/** The token of a call at the gate, which is charged under its id. In degraded mode it is charged at other meters, so it is told from the call in its normal mode. */
export function tokenOf(call: Call): string {
  return call.degraded === true ? `${identityOf(call)}~` : identityOf(call)
}

export function idTaken(id: string): TollgateError {
  return new TollgateError('ID_TAKEN', `the id ${show(id)} is that of another call, with another agent or other scope values`)
}
