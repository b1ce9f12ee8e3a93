import { randomBytes } from 'node:crypto'

/** Names for ledgers, and for calls that need a name in one. One object for each Tollgate; no two names are alike, also between processes. */
export class LedgerNames {
  private readonly prefix = `~/${randomBytes(9).toString('base64url')}.`
  private count = 0

  next(): string {
    return this.prefix + ++this.count
  }
}
