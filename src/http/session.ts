import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { HOUR, SECOND } from '../model/time.js'

/** What a signed-in browser may do: see the pages, or change the policy, too. */
export type PageRole = 'viewer' | 'admin'

/** A browser that has signed in. */
export interface Session {
  readonly role: PageRole
  /** The actor that the audit names for its changes. */
  readonly by: string
}

const COOKIE = 'tollgate_session'
const LASTS_MS = 12 * HOUR

function signature(keyDigest: Buffer, payload: string): Buffer {
  return createHmac('sha256', keyDigest).update(`tollgate session ${payload}`).digest()
}

/** The value of a cookie; undefined where the header has none of that name. */
function cookieOf(header: string | undefined, name: string): string | undefined {
  return header
    ?.split(';')
    .map((one) => one.trim())
    .find((one) => one.startsWith(`${name}=`))
    ?.slice(name.length + 1)
}

/**
 * Signs a session for the holder of a key. Nothing of a session is stored: it is signed by the digest of the key that it was begun with, so every server
 * with that key knows it, it survives a restart, and it ends where the key is taken out of the settings, or after 12 hours.
 */
export function issueSession(keyDigest: Buffer, { role, by }: Session, nowMs: number): string {
  const payload = Buffer.from(JSON.stringify([role, by, nowMs + LASTS_MS, randomBytes(9).toString('base64url')])).toString('base64url')
  return `${payload}.${signature(keyDigest, payload).toString('base64url')}`
}

/** @param keys the digests of the configured keys, by role; all are compared, so the time does not tell which one signed */
export function readSession(cookies: string | undefined, keys: Readonly<Record<PageRole, readonly Buffer[]>>, nowMs: number): Session | undefined {
  const [payload = '', signed = ''] = cookieOf(cookies, COOKIE)?.split('.') ?? []
  const given = Buffer.from(signed, 'base64url')
  let found: PageRole | undefined
  for (const role of ['viewer', 'admin'] as const)
    for (const key of keys[role]) {
      const own = signature(key, payload)
      if (given.length === own.length && timingSafeEqual(given, own)) found = role
    }
  if (found === undefined) return undefined
  const [role, by, untilMs] = JSON.parse(Buffer.from(payload, 'base64url').toString()) as [PageRole, string, number]
  return role === found && nowMs < untilMs ? { role, by } : undefined
}

/** @param secure where the browser reaches the server by TLS */
export function sessionCookie(session: string | null, secure: boolean): string {
  const lasts = session === null ? 0 : LASTS_MS / SECOND
  return `${COOKIE}=${session ?? ''}; Path=/; Max-Age=${lasts}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`
}
