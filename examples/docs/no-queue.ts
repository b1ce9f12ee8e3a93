import { Tollgate } from '../../src/index.js'

// Without a Redis the limits are those of this process; with REDIS_URL all processes share them.
const tollgate = await Tollgate.open({ rules: [{ name: 'search', scope: 'agent', limits: [{ requests: 20, per: 'second', burst: 1 }, { concurrency: 2 }] }] })

async function search(word: string): Promise<string> {
  // Waits its turn, at most two seconds.
  const grant = await tollgate.gate.acquire({ agent: 'search' }, { signal: AbortSignal.timeout(2000) })
  try {
    return `found ${word}`
  } finally {
    await grant.settle()
  }
}

const begunMs = performance.now()
console.log(await Promise.all(['one', 'two', 'three', 'four', 'five'].map(search)))
console.log(performance.now() - begunMs >= 190 ? 'paced: 20 a second' : 'all at once')
await tollgate.close()
