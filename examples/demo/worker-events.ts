/** What the worker process reports. Times are of Redis' clock, as those of the front door are. */
export type WorkerEvent =
  | { readonly kind: 'ready' }
  /** BullMQ handed it a job, whether it may start or not. */
  | { readonly kind: 'pickedUp' }
  | { readonly kind: 'started'; readonly id: string; readonly atMs: number }
  | { readonly kind: 'finished'; readonly id: string; readonly tokens: number }
  | { readonly kind: 'failed'; readonly id: string; readonly reason: string }

export interface WorkerSettings {
  readonly redis: string
  readonly namespace: string
  readonly queue: string
  readonly agents: Readonly<Record<string, { readonly baseUrl: string }>>
  readonly concurrency: number
}
