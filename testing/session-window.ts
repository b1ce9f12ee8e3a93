import type { AlgorithmLimit, RuleAlgorithm } from '../src/limits/algorithms/custom.js'

/** How many windows have ended since the one of the state began. */
function passed({ windowMs }: AlgorithmLimit, [beganMs = 0]: readonly number[], nowMs: number): number {
  return Math.floor((nowMs - beganMs) / windowMs)
}

/** An algorithm of a user's own: a window that begins with the first call in it. What is overrun is carried into the windows that follow. */
export const sessionWindow: RuleAlgorithm = {
  used: (limit, state, nowMs) => (state.length === 0 ? 0 : Math.max(0, (state[1] as number) - passed(limit, state, nowMs) * limit.capacity)),
  waitMs(limit, state, nowMs, cost, ahead) {
    const over = this.used(limit, state, nowMs) + cost + ahead - limit.capacity
    if (over <= 1e-9) return 0
    return (state[0] ?? nowMs) + (passed(limit, state, nowMs) + Math.ceil(over / limit.capacity)) * limit.windowMs - nowMs
  },
  charge(limit, state, nowMs, amount) {
    const used = this.used(limit, state, nowMs)
    state[0] = used === 0 ? nowMs : (state[0] as number) + passed(limit, state, nowMs) * limit.windowMs
    state[1] = used + amount
  },
  refund(limit, state, nowMs, amount, atMs) {
    const used = this.used(limit, state, nowMs)
    if (used > 0 && passed(limit, state, nowMs) === passed(limit, state, atMs)) state[1] = (state[1] as number) - Math.min(used, amount)
  },
  resetMs(limit, state, nowMs) {
    const windows = passed(limit, state, nowMs) + Math.ceil(this.used(limit, state, nowMs) / limit.capacity)
    return Math.max(0, (state[0] ?? nowMs) + windows * limit.windowMs - nowMs)
  },
  lua: `
local own = {}
local function passed(limit, state, now)
  return math.floor((now - state[1]) / limit.windowMs)
end
function own.used(limit, state, now)
  return state[1] and math.max(0, state[2] - passed(limit, state, now) * limit.capacity) or 0
end
function own.waitMs(limit, state, now, cost, ahead)
  local over = own.used(limit, state, now) + cost + ahead - limit.capacity
  if over <= 1e-9 then return 0 end
  local windows = (state[1] and passed(limit, state, now) or 0) + math.ceil(over / limit.capacity)
  return (state[1] or now) + windows * limit.windowMs - now
end
function own.charge(limit, state, now, amount)
  local used = own.used(limit, state, now)
  state[1] = used == 0 and now or state[1] + passed(limit, state, now) * limit.windowMs
  state[2] = used + amount
end
function own.refund(limit, state, now, amount, at)
  local used = own.used(limit, state, now)
  if used > 0 and passed(limit, state, now) == passed(limit, state, at) then state[2] = state[2] - math.min(used, amount) end
end
function own.resetMs(limit, state, now)
  if not state[1] then return 0 end
  local windows = passed(limit, state, now) + math.ceil(own.used(limit, state, now) / limit.capacity)
  return math.max(0, state[1] + windows * limit.windowMs - now)
end
return own
`,
}

/** Algorithms that the rules of tests may name. */
export const TEST_ALGORITHMS = { session: sessionWindow }
