import { COUNTED, type CountedMetric, type MetricSpec } from './metric-table.js'

/** The most label combinations of one metric. Agents and rules come from configuration; calls that name others must not fill the memory of Prometheus. */
const MOST_SERIES = 1000
/** The labels of everything beyond that. */
export const OTHER_LABEL = 'other'

export interface MetricCell {
  readonly labels: readonly string[]
  /** Of a histogram: the sum. */
  value: number
  count: number
  /** Of a histogram: how many values each bucket has, the last one those above all bounds. */
  readonly buckets: number[]
}

type Branch = Map<string, Branch | MetricCell>

function newCell({ buckets }: MetricSpec, labels: readonly string[]): MetricCell {
  return { labels, value: 0, count: 0, buckets: buckets === undefined ? [] : new Array<number>(buckets.length + 1).fill(0) }
}

class MetricFamily {
  readonly cells: MetricCell[] = []
  private readonly root: Branch = new Map()
  private readonly rest: MetricCell
  private readonly bare: MetricCell

  constructor(readonly spec: MetricSpec) {
    this.rest = newCell(
      spec,
      spec.labels.map(() => OTHER_LABEL),
    )
    this.bare = spec.labels.length === 0 ? newCell(spec, []) : this.rest
    if (spec.labels.length === 0) this.cells.push(this.bare)
  }

  cell(labels: readonly string[]): MetricCell {
    if (labels.length === 0) return this.bare
    let branch = this.root
    const last = labels.length - 1
    for (let n = 0; n < last; n++) {
      const label = labels[n] as string
      let next = branch.get(label) as Branch | undefined
      if (next === undefined) {
        if (this.cells.length >= MOST_SERIES) return this.other()
        next = new Map()
        branch.set(label, next)
      }
      branch = next
    }
    const known = branch.get(labels[last] as string) as MetricCell | undefined
    if (known !== undefined) return known
    if (this.cells.length >= MOST_SERIES) return this.other()
    const cell = newCell(this.spec, [...labels])
    branch.set(labels[last] as string, cell)
    this.cells.push(cell)
    return cell
  }

  private other(): MetricCell {
    if (!this.cells.includes(this.rest)) this.cells.push(this.rest)
    return this.rest
  }
}

/**
 * What this process has counted, as plain sums: an addition costs some 20 ns, where an instrument of prom-client costs ten times as much. prom-client reads the
 * sums when its registry is asked for them.
 */
export class MetricCells {
  private readonly families: Readonly<Record<CountedMetric, MetricFamily>> = Object.fromEntries(
    Object.entries(COUNTED).map(([key, spec]) => [key, new MetricFamily(spec)]),
  ) as Record<CountedMetric, MetricFamily>

  /** Brings what was counted elsewhere, before it is read. */
  onRead: () => void = () => {}

  add(metric: CountedMetric, amount: number, ...labels: readonly string[]): void {
    this.families[metric].cell(labels).value += amount
  }

  observe(metric: CountedMetric, value: number, ...labels: readonly string[]): void {
    const family = this.families[metric]
    const cell = family.cell(labels)
    const { buckets: bounds = [] } = family.spec
    let n = 0
    while (n < bounds.length && value > (bounds[n] as number)) n++
    cell.buckets[n] = (cell.buckets[n] as number) + 1
    cell.value += value
    cell.count++
  }

  /** Adds what one cell of a histogram has in each bucket. */
  observed(metric: CountedMetric, buckets: Iterable<number>, sum: number, ...labels: readonly string[]): void {
    const cell = this.families[metric].cell(labels)
    let n = 0
    for (const count of buckets) {
      cell.buckets[n] = (cell.buckets[n] as number) + count
      cell.count += count
      n++
    }
    cell.value += sum
  }

  cells(metric: CountedMetric): readonly MetricCell[] {
    this.onRead()
    return this.families[metric].cells
  }

  sum(metric: CountedMetric): number {
    return this.cells(metric).reduce((sum, { value }) => sum + value, 0)
  }
}
