import { randomBytes } from 'node:crypto'

/**
 * Names for ledgers, and for calls that need a name. One object for each Tollgate; no two names are alike, also between processes. No call has such a name
 * as its id: ids of the gate begin with `~/`, those of jobs with their queue.
 */
export class LedgerNames {
  private readonly prefix = `~~/${randomBytes(9).toString('base64url')}.`
  private count = 0

  next(): string {
    return this.prefix + ++this.count
  }
}
