import { isIP } from 'node:net'

/** A range of addresses, of one address at least. */
export interface Network {
  /** The 16-bit groups of its first address: two of IPv4, eight of IPv6. */
  readonly groups: readonly number[]
  /** How many of their bits all its addresses share. */
  readonly prefix: number
}

const GROUP_BITS = 16
const MAPPED_PREFIX = 96

function quadGroups(quad: string): number[] {
  const [a = 0, b = 0, c = 0, d = 0] = quad.split('.').map(Number)
  return [a * 256 + b, c * 256 + d]
}

function groupsOf(address: string): number[] {
  if (!address.includes(':')) return quadGroups(address)
  const read = (part: string) => (part === '' ? [] : part.split(':').flatMap((one) => (one.includes('.') ? quadGroups(one) : [Number.parseInt(one, 16)])))
  // A zone names an interface of the machine that wrote it down.
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const [first, last] = [read(head), read(tail ?? '')]
  return [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last]
}

function masked(groups: readonly number[], prefix: number): number[] {
  return groups.map((group, index) => {
    const bits = Math.min(GROUP_BITS, Math.max(0, prefix - index * GROUP_BITS))
    return group & (0xffff << (GROUP_BITS - bits)) & 0xffff
  })
}

/** The network of an address that is valid. IPv4 written as IPv6 (::ffff:a.b.c.d) is IPv4. */
function networkOf(address: string, prefix: number): Network {
  const groups = groupsOf(address)
  const isMapped = groups.length === 8 && prefix >= MAPPED_PREFIX && groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)
  const own = isMapped ? { groups: groups.slice(6), prefix: prefix - MAPPED_PREFIX } : { groups, prefix }
  return { groups: masked(own.groups, own.prefix), prefix: own.prefix }
}

/** An address or a CIDR range; null where the text is neither. */
export function parseNetwork(text: string): Network | null {
  const [address = '', prefix, more] = text.split('/')
  const version = isIP(address)
  if (version === 0 || more !== undefined) return null
  const longest = version === 6 ? 128 : 32
  if (prefix === undefined) return networkOf(address, longest)
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= longest ? networkOf(address, Number(prefix)) : null
}

/** Whether all addresses of a network are in a range. */
export function isWithin({ groups, prefix }: Network, range: Network): boolean {
  if (groups.length !== range.groups.length || prefix < range.prefix) return false
  const own = masked(groups, range.prefix)
  return range.groups.every((group, index) => group === own[index])
}

/** Compiles an address or CIDR range to a check of addresses; null where the text is neither. */
export function parseRange(text: string): ((ip: string) => boolean) | null {
  const network = parseNetwork(text)
  return network === null ? null : (ip) => isWithin(addressOf(ip), network)
}

/** The normal form of an address: of IPv6 that of RFC 5952. */
function textOf(groups: readonly number[]): string {
  if (groups.length === 2) return groups.flatMap((group) => [group >> 8, group & 255]).join('.')
  const text = groups.map((group) => group.toString(16)).join(':')
  // The longest run of zeros, the first of equal ones, and two at least.
  const runs = [...text.matchAll(/(?<![^:])0(?::0)+(?![^:])/g)].sort((one, other) => other[0].length - one[0].length || one.index - other.index)
  const [run] = runs
  if (run === undefined) return text
  return `${text.slice(0, run.index).replace(/:$/, '')}::${text.slice(run.index + run[0].length).replace(/^:/, '')}`
}

/** The one form of an address, so that all its spellings are counted as one. */
export function plainAddress(ip: string): string {
  return ip.includes(':') ? textOf(networkOf(ip, 128).groups) : ip
}

function addressOf(ip: string): Network {
  return networkOf(ip, ip.includes(':') ? 128 : 32)
}

/** How a rule counts addresses: IPv6 ones by networks of this prefix, since a client has all addresses of one; and what is an exception by itself. */
export interface AddressCounting {
  readonly ipv6Prefix: number
  /** Smaller networks, the smallest first. */
  readonly exceptions?: readonly Network[] | undefined
}

/** The network that an address is counted in; an IPv4 address is counted by itself. */
export function countedNetwork(ip: string, { ipv6Prefix, exceptions = [] }: AddressCounting): Network {
  const address = addressOf(ip)
  if (address.groups.length === 2) return address
  return exceptions.find((range) => isWithin(address, range)) ?? { groups: masked(address.groups, ipv6Prefix), prefix: ipv6Prefix }
}

/** The first address of that network, as text. */
export function countedAddress(ip: string, ipv6Prefix: number): string {
  return ip.includes(':') ? textOf(countedNetwork(ip, { ipv6Prefix }).groups) : ip
}

/** That network as text: an address, or an IPv6 range such as 2001:db8::/64. */
export function countedRange(ip: string, counting: AddressCounting): string {
  if (!ip.includes(':')) return ip
  const { groups, prefix } = countedNetwork(ip, counting)
  return groups.length === 2 || prefix === 128 ? textOf(groups) : `${textOf(groups)}/${prefix}`
}
