/** The name of Tollgate's workers: BullMQ writes it into each job that they take. */
export const WORKER_NAME = 'tollgate'

/** Whether a job that a worker has taken went past the gate. @param name of that worker, as BullMQ has written it into the job */
export function handledElsewhere(name: string | null): boolean {
  return name !== WORKER_NAME
}
