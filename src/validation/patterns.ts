import { BlockList, isIP, isIPv6, SocketAddress } from 'node:net'

/** Compiles a glob to a check of a whole value: * stands for any characters, ? for one. */
export function compileGlob(glob: string): (value: string) => boolean {
  if (!isGlob(glob)) return (value) => value === glob
  const pattern = [...glob]
  return (value) => matchesGlob(pattern, [...value])
}

export function isGlob(text: string): boolean {
  return /[*?]/.test(text)
}

/** Backtracks to the last star only, so the time is bounded by the length of the pattern times that of the value. */
function matchesGlob(pattern: readonly string[], value: readonly string[]): boolean {
  let at = 0
  let star = -1
  let resumeAt = 0
  for (let i = 0; i < value.length; ) {
    if (pattern[at] === '*') {
      star = at++
      resumeAt = i
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === value[i])) {
      at++
      i++
    } else if (star >= 0) {
      at = star + 1
      i = ++resumeAt
    } else return false
  }
  while (pattern[at] === '*') at++
  return at === pattern.length
}

/** Compiles an address or CIDR range to a check of addresses; null where the text is neither. */
export function parseRange(text: string): ((ip: string) => boolean) | null {
  const [address = '', prefix, more] = text.split('/')
  const version = isIP(address)
  if (version === 0 || more !== undefined) return null
  const family = version === 6 ? 'ipv6' : 'ipv4'
  const list = new BlockList()
  if (prefix === undefined) list.addAddress(address, family)
  else {
    if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > (version === 6 ? 128 : 32)) return null
    list.addSubnet(address, Number(prefix), family)
  }
  return (ip) => list.check(ip, isIPv6(ip) ? 'ipv6' : 'ipv4')
}

/** The canonical form of an address, so that all its spellings are counted as one. */
export function plainAddress(ip: string): string {
  if (!ip.includes(':')) return ip
  const { address } = new SocketAddress({ address: ip, family: 'ipv6' })
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  return mapped?.[1] ?? address
}
