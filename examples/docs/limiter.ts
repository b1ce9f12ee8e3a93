import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open()

const limiter = tollgate.limiter({ requests: 2, per: 'minute' })
for (let attempt = 0; attempt < 3; attempt++) {
  const { allowed, remaining, retryAfterMs } = await limiter.check('user 1')
  console.log(allowed, Math.floor(remaining ?? 0), retryAfterMs === 0)
}

// Both must have room, or neither is charged.
const perUser = tollgate.limiter({ name: 'per-user', tokens: 1000, per: 'minute' })
const perAddress = tollgate.limiter({ name: 'per-address', tokens: 5000, per: 'hour' })
const both = tollgate.all([perUser, perAddress])
await both.consume(['user 1', '10.0.0.1'], 800)
await both.checkOrThrow(['user 1', '10.0.0.1'], 800).catch((error) => console.log(error.code, error.limit))

await limiter.reset('user 1')
console.log((await limiter.peek('user 1')).allowed)
await tollgate.close()
