import type { RuleSpec } from '../policy/rule.js'

/** Which endpoints the rules of `defaultRules` are for; names may be globs. */
export interface DefaultRulesOptions {
  /** Default `/search*`, `/export*`, `/reports*`. */
  expensive?: readonly string[] | undefined
  /** Default `/login*`, `/logout*`, `/auth*`, `/token*`, `/oauth*`. */
  authentication?: readonly string[] | undefined
  /** Default `/roles*`, `/role-requests*`. */
  roles?: readonly string[] | undefined
}

function perMinute(name: string, scope: string, requests: number, endpoints?: readonly string[]): RuleSpec {
  const match = endpoints === undefined ? {} : { match: { endpoints: [...endpoints] } }
  return { name, scope, ...match, strategy: 'retry_after', limits: [{ requests, per: 'minute', algorithm: 'sliding_window' }] }
}

/** Rules to start with for an HTTP API behind the middleware; each counts by the minute, those of endpoints per client. */
export function defaultRules({
  expensive = ['/search*', '/export*', '/reports*'],
  authentication = ['/login*', '/logout*', '/auth*', '/token*', '/oauth*'],
  roles = ['/roles*', '/role-requests*'],
}: DefaultRulesOptions = {}): RuleSpec[] {
  return [
    perMinute('global', 'global', 1000),
    perMinute('user', 'user', 100),
    perMinute('ip', 'ip', 50),
    perMinute('expensive', 'keys.client', 10, expensive),
    perMinute('authentication', 'keys.client', 60, authentication),
    perMinute('roles', 'keys.client', 10, roles),
  ]
}
