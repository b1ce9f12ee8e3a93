import { randomBytes } from 'node:crypto'

/** Names for the ledgers that calls share which start together: no two alike, whoever makes them. */
export class LedgerNames {
  private readonly origin = randomBytes(9).toString('base64url')
  private count = 0

  next(): string {
    return `~/${this.origin}.${++this.count}`
  }
}
