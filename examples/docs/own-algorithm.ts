import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open()
const limiter = tollgate.limiter<number>({
  name: 'two-a-second',
  // The state is the time from which the next call passes.
  check: (next, now) =>
    next === null || next <= now ? { allowed: true, state: now + 500, retryAfterMs: null } : { allowed: false, state: next, retryAfterMs: next - now },
})
console.log((await limiter.check('user 1')).allowed, (await limiter.check('user 1')).allowed, (await limiter.check('user 2')).allowed)
await tollgate.close()
