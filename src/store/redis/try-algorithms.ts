import type { Redis } from 'ioredis'
import type { RuleAlgorithm } from '../../limits/algorithms/custom.js'
import { compareTrials, tryAlgorithm } from '../../limits/try-algorithm.js'
import { scripts } from './scripts.js'

/** Compares the Lua of algorithms with their twins, in the Redis that is to run it. @param key any of the namespace. @throws ConfigInvalid */
export async function tryAlgorithms(redis: Redis, key: string, algorithms: Readonly<Record<string, RuleAlgorithm>>): Promise<void> {
  for (const [name, algorithm] of Object.entries(algorithms)) {
    const trials = tryAlgorithm(name, algorithm)
    const asked = JSON.stringify(trials.map(({ limit, steps }) => [limit, steps]))
    compareTrials(name, trials, await scripts.tryAlgorithm.run(redis, [key], [algorithm.lua, asked]))
  }
}
