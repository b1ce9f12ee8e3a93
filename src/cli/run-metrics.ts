import { type Common, withTollgate } from './common.js'

/** Prints the metrics of a namespace as they are read of Redis; what processes count themselves is at their own `/metrics`. */
export function runMetrics(options: Common): Promise<void> {
  return withTollgate(options, async (tollgate) => {
    const registry = await tollgate.metrics()
    if (options.json !== true) return { prints: (await registry.metrics()).trimEnd() }
    const metrics = await registry.getMetricsAsJSON()
    return { prints: metrics.map(({ name, type, help, values }) => ({ name, type, help, values })) }
  })
}
