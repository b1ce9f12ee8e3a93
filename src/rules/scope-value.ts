import { SocketAddress } from 'node:net'
import type { Call } from '../call.js'

/** One part of a scope value in a key: unambiguous whatever it holds. */
export function escapePart(value: string): string {
  return /^[A-Za-z0-9._@/-]*$/.test(value) ? value : encodeURIComponent(value)
}

/** An address in its one plain form, so that other spellings of it are not counted apart. */
export function plainAddress(ip: string): string {
  if (!ip.includes(':')) return ip
  const { address } = new SocketAddress({ address: ip, family: 'ipv6' })
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  return mapped?.[1] ?? address
}

function scopePart(scope: string): (call: Call) => string | undefined {
  if (scope === 'global') return () => '*'
  if (scope.startsWith('keys.')) {
    const key = scope.slice('keys.'.length)
    return (call) => (call.keys !== undefined && Object.hasOwn(call.keys, key) ? call.keys[key] : undefined)
  }
  const field = scope as 'agent' | 'endpoint' | 'model' | 'user' | 'team' | 'org' | 'ip'
  return field === 'ip' ? (call) => (call.ip === undefined ? undefined : plainAddress(call.ip)) : (call) => call[field]
}

/** A function from a call to what the scopes count it by; null where the call lacks one of them. */
export function scopeValueOf(scopes: readonly string[]): (call: Call) => string | null {
  const parts = scopes.map(scopePart)
  return (call) => {
    let value = ''
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]?.(call)
      if (part === undefined) return null
      value = i === 0 ? escapePart(part) : `${value}|${escapePart(part)}`
    }
    return value
  }
}
