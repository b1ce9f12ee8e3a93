import { isIP } from 'node:net'
import { plainAddress } from '../validation/patterns.js'

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const [head = '', tail] = address.split('::')
  const read = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const first = read(head)
  const last = tail === undefined ? [] : read(tail)
  return [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last]
}

/** An address as rules count it: of IPv6 the network with this prefix, since a client has all addresses of it. */
export function countedAddress(address: string, ipv6Prefix: number): string {
  const plain = plainAddress(address.replace(/%.*$/, ''))
  if (isIP(plain) !== 6 || plain.includes('.')) return plain
  const groups = groupsOf(plain).map((group, index) => {
    const bits = Math.min(16, Math.max(0, ipv6Prefix - index * 16))
    return group & (0xffff << (16 - bits)) & 0xffff
  })
  const short = groups
    .slice(0, Math.max(1, Math.ceil(ipv6Prefix / 16)))
    .map((group) => group.toString(16))
    .join(':')
  return ipv6Prefix > 112 ? groups.map((group) => group.toString(16)).join(':') : `${short}::`
}

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
