import { createHmac } from 'node:crypto'
import type { AlertFinding } from './evaluate.js'

/** What log, listeners and webhooks are told: an alert fires, or has ended. */
export interface AlertNotice extends AlertFinding {
  /** Of this firing: the same when it ends. */
  readonly id: string
  readonly state: 'firing' | 'ended'
  /** Since when it holds. ISO 8601. */
  readonly since: string
  /** When it ended; null while it holds. */
  readonly until: string | null
  readonly namespace: string
}

/** A notice as a CloudEvent, in structured mode. */
export function cloudEvent(notice: AlertNotice): Readonly<Record<string, unknown>> {
  const { id, state, namespace, since, until } = notice
  return {
    specversion: '1.0',
    id: `${id}.${state}`,
    source: `/tollgate/${encodeURIComponent(namespace)}`,
    type: `tollgate.alert.${state}`,
    subject: [notice.alert, notice.subject].filter((part) => part !== '').join('/'),
    time: until ?? since,
    datacontenttype: 'application/json',
    data: notice,
  }
}

/** The bytes of a secret: of `whsec_…` those that its base64 stands for, as Standard Webhooks has it; else its text. */
function secretBytes(secret: string): Buffer {
  return secret.startsWith('whsec_') ? Buffer.from(secret.slice('whsec_'.length), 'base64') : Buffer.from(secret, 'utf8')
}

/** The headers of Standard Webhooks. @param id equal for every try of one message */
export function signedHeaders(id: string, body: string, secret: string, nowMs: number): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1000))
  const signature = createHmac('sha256', secretBytes(secret)).update(`${id}.${timestamp}.${body}`).digest('base64')
  return {
    'content-type': 'application/cloudevents+json; charset=utf-8',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature}`,
  }
}
