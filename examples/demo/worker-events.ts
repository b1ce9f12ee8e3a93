/** A report of the worker process. Times are on Redis' clock, as those of tickets are. */
export type WorkerEvent =
  | { readonly kind: 'ready' }
  /** BullMQ handed the worker a job, which may start or has to wait. */
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
