import { MINUTE } from '../model/time.js'

/** A minute is cut into so many cells; what was let in counts until all of its cell is a minute ago. */
const CELLS = 60
const CELL_MS = MINUTE / CELLS

/** How many calls this process lets in unchecked: at most so many in any minute. By a clock that nobody sets. */
export class Unchecked {
  /** All so far. */
  total = 0
  private readonly most: number
  private readonly now: () => number
  private cells: { readonly cell: number; count: number }[] = []

  constructor(most: number, now: () => number = () => performance.now()) {
    this.most = most
    this.now = now
  }

  /** Whether one more may be let in. */
  get room(): boolean {
    const oldest = Math.floor(this.now() / CELL_MS) - CELLS
    this.cells = this.cells.filter(({ cell }) => cell >= oldest)
    return this.cells.reduce((sum, { count }) => sum + count, 0) < this.most
  }

  /** One was let in. */
  count(): void {
    this.total++
    const cell = Math.floor(this.now() / CELL_MS)
    const last = this.cells.at(-1)
    if (last?.cell === cell) last.count++
    else this.cells.push({ cell, count: 1 })
  }
}
