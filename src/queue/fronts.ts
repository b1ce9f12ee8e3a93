import type { Redis } from 'ioredis'
import type { DrainedLine, Gate } from '../gate/gate.js'
import { askAgain } from './stored.js'

/** Who stands first in each of these lines, resolved under the rules in force now. */
export async function readFronts(redis: Redis, gate: Gate, lines: readonly string[], perLine: number): Promise<DrainedLine[]> {
  const fronts = await Promise.all(lines.map((line) => redis.zrange(line, '0', String(perLine - 1))))
  const ids = fronts.flat()
  const records = ids.length === 0 ? [] : await redis.mget(ids.map((id) => gate.keys.call(id)))
  let at = 0
  return lines.map((key, index) => ({
    key,
    calls: (fronts[index] ?? []).map((id) => askAgain(gate, id, records[at++] ?? null)),
  }))
}
