import type { DemandPart } from './demand.js'

/** Without the mark of a limiter's name. */
function plain(rule: string): string {
  return rule.replace(/^~~/, '')
}

/** A meter as the audit names it. */
export function meterOf({ rule, value }: DemandPart): string {
  return `${plain(rule.name)}/${value}`
}

/** A limit as the audit names it. */
export function limitOf(rule: string, limit: string): string {
  return `${plain(rule)}/${limit}`
}
