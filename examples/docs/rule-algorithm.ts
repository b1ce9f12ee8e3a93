import { type AlgorithmLimit, type RuleAlgorithm, Tollgate } from '../../src/index.js'

// Usage halves every window; below a thousandth of the limit it is nothing. The state is what was used, and when.
const left = ({ windowMs }: AlgorithmLimit, [used = 0, at = 0]: readonly number[], now: number) => used / 2 ** ((now - at) / windowMs)

const halving: RuleAlgorithm = {
  used(limit, state, now) {
    const used = left(limit, state, now)
    return used * 1000 > limit.capacity ? used : 0
  },
  waitMs(limit, state, now, cost, ahead) {
    const room = Math.max(limit.capacity - cost - ahead, limit.capacity / 1000)
    return Math.max(0, limit.windowMs * Math.log2(this.used(limit, state, now) / room))
  },
  charge(limit, state, now, amount) {
    state.splice(0, 2, left(limit, state, now) + amount, now)
  },
  resetMs(limit, state, now) {
    return Math.max(0, limit.windowMs * Math.log2((left(limit, state, now) * 1000) / limit.capacity))
  },
  lua: `
    local own = {}
    local function left(limit, state, now)
      return state[1] and state[1] / 2 ^ ((now - state[2]) / limit.windowMs) or 0
    end
    local function log2(x)
      return x > 0 and math.log(x) / math.log(2) or 0
    end
    function own.used(limit, state, now)
      local used = left(limit, state, now)
      return used * 1000 > limit.capacity and used or 0
    end
    function own.waitMs(limit, state, now, cost, ahead)
      local room = math.max(limit.capacity - cost - ahead, limit.capacity / 1000)
      return math.max(0, limit.windowMs * log2(own.used(limit, state, now) / room))
    end
    function own.charge(limit, state, now, amount)
      state[1], state[2] = left(limit, state, now) + amount, now
    end
    function own.resetMs(limit, state, now)
      return math.max(0, limit.windowMs * log2(left(limit, state, now) * 1000 / limit.capacity))
    end
    return own
  `,
}

const tollgate = await Tollgate.open({
  algorithms: { halving },
  rules: [{ name: 'per-user', scope: 'user', strategy: 'retry_after', limits: [{ tokens: 1000, per: 'minute', algorithm: 'custom:halving' }] }],
})
const call = { agent: 'openai', user: 'u1', cost: { tokens: 800 } }
for (let n = 0; n < 2; n++) {
  const { allowed, retryAfterMs } = await tollgate.gate.admit(call)
  // Of 800 tokens 200 are left after two minutes.
  console.log(allowed, Math.round((retryAfterMs ?? 0) / 10_000))
}
await tollgate.close()
