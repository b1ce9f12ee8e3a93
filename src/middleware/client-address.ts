import { isIP } from 'node:net'

/**
 * The address of a client.
 * @param trustProxy how many proxies stand before this server, counted from it: each adds the address that it was reached from to X-Forwarded-For.
 *   false: none, the header is not believed
 */
export function clientAddress(peer: string | undefined, forwarded: string | undefined, trustProxy: number | false): string | undefined {
  if (trustProxy === false || trustProxy < 1) return peer
  const hops = (forwarded ?? '').split(',').map((one) => one.trim())
  const named = hops.at(-trustProxy) ?? hops[0]
  return named !== undefined && isIP(named) !== 0 ? named : peer
}
