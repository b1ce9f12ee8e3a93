-- Recovery: the factor of an agent's limits that is used after the agent refused a call, and the
-- limits that are mirrored beside its block (lib/upstream.lua has the life of a block).
--
-- A block is one list of numbers, as it is kept (places below). Its factor holds from `since` on and
-- grows step by step to 1. since = 0 means that it does not grow yet: a probe is due or under way.
-- The first step takes `backoff` times as long, so an agent that refused again and again is tried
-- less often. Factors are multiplied step by step, not by a power, so that a process that does the
-- same sum comes to the same bits.
local Recovery = {
  UNTIL = 1,         -- nothing passes before this time
  FACTOR = 2,        -- the factor at `since`
  SINCE = 3,         -- when the factor began to grow, 0 = a probe is due or under way
  STABLE_FACTOR = 4, -- the last factor that had held, 0 = none
  BACKOFF = 5,       -- how many steps the first one takes
  PROBE_END = 6,     -- when the lease of the probe that is under way ends, 0 = none is
  PROBE_AT = 7,      -- when that probe started
  AWAITED = 8,       -- until when a woken probe is waited for, 0 = none was woken
  OBSERVED = 8,      -- + the code of a unit: units per ms that the agent was seen to allow, 0 = unknown
  CUT_AT = 15,       -- when the factor was cut last
  EVENT_AT = 16,     -- when a refusal blocked the agent last; what follows counts from there:
  PASSED = 17,       -- how many calls that started since then were not refused, up to ENOUGH_PASSED
  ALONE = 18,        -- how many calls were refused each for itself since one passed
  ALONE_AT = 19,     -- when the first of these was refused
  REFUSED = 20,      -- how many refusals blocked the agent since ENOUGH_PASSED calls passed
  SERVED = 21,       -- 1 where a call passed between the last two refusals that blocked the agent
  SIZE = 21,
}
do
local floor, max, min = math.floor, math.max, math.min
local FACTOR, SINCE, BACKOFF, OBSERVED = Recovery.FACTOR, Recovery.SINCE, Recovery.BACKOFF, Recovery.OBSERVED

-- How often the factor has grown by a time.
function Recovery.steps_until(block, at)
  local past = at - block[SINCE] - block.every * block[BACKOFF]
  return past < 0 and 0 or 1 + floor(past / block.every)
end

function Recovery.factor_after(block, steps)
  local factor = block[FACTOR]
  for _ = 1, steps do
    if factor >= 1 then return 1 end
    factor = factor * block.grows
  end
  return min(1, factor)
end

function Recovery.factor_at(block, at)
  return block[SINCE] == 0 and block[FACTOR] or Recovery.factor_after(block, Recovery.steps_until(block, at))
end

-- How long it takes until nothing is cut any more, in ms.
function Recovery.duration(block)
  local steps, factor = 0, block[FACTOR]
  while factor < 1 do
    steps, factor = steps + 1, factor * block.grows
  end
  return steps == 0 and 0 or block.every * (block[BACKOFF] + steps - 1)
end

function Recovery.is_cut(block, now)
  return block[SINCE] > 0 and Recovery.factor_at(block, now) < 1
end

-- Calls fn(length in ms, factor) for each step from a time on, until it returns something.
local function each_step(block, from, fn)
  local factor, ends = block[FACTOR], block[SINCE] + block.every * block[BACKOFF]
  from = max(from, block[SINCE])
  while true do
    if factor >= 1 then return fn(math.huge, 1) end
    if ends > from then
      local found = fn(ends - from, factor)
      if found then return found end
      from = ends
    end
    factor, ends = factor * block.grows, ends + block.every
  end
end

-- The factor that the observed rate of a unit comes to.
local function observed_factor(limit, block)
  local observed = block[OBSERVED + limit.unit]
  return observed > 0 and observed / limit.rate or math.huge
end

function Recovery.capacity(limit, block, now)
  return limit.capacity * Recovery.factor_at(block, now)
end

-- A limit of a rule that guards an agent, mirrored beside the agent's block: a bucket whose burst and
-- rate are multiplied by the factor, and which fills no faster than the agent was seen to allow. It
-- counts only while the factor is below 1, and begins empty, since what the agent has left is not
-- known. A cost above the reduced burst passes once the bucket is full, so no cost is too big.
Recovery.mirrored = {
  roll = function(limit, used, _, from, now, block)
    if block[SINCE] == 0 or from >= now or now <= block[SINCE] then return used, 0 end
    local most, left, back = observed_factor(limit, block), now - max(from, block[SINCE]), 0
    each_step(block, from, function(length, factor)
      local part = min(length, left)
      back, left = back + part * min(factor, most) * limit.rate, left - part
      return left <= 0
    end)
    return max(0, used - back), 0
  end,
  wait = function(limit, used, _, now, cost, ahead, block)
    if not Recovery.is_cut(block, now) then return 0 end
    local capacity, most = Recovery.capacity(limit, block, now), observed_factor(limit, block)
    local over = used + min(cost, capacity) + ahead - capacity
    if over <= limit.slack then return 0 end
    local waited = max(0, block[SINCE] - now)
    return each_step(block, now, function(length, factor)
      local rate = limit.rate * min(factor, most)
      if over <= length * rate then return Algorithms.wait_up(waited + over / rate) end
      over, waited = over - length * rate, waited + length
    end)
  end,
  charge = function(_, block, used, cost, now) return Recovery.is_cut(block, now) and used + cost or used end,
  -- A charge from before the cut was not counted here.
  overrun = function(_, block, used, amount, at, now)
    return Recovery.is_cut(block, now) and at >= block[SINCE] and used + amount or used
  end,
  refundable = function(_, at, now, block) return Recovery.is_cut(block, now) and at >= block[SINCE] end,
  leaks = true,
  ttl = function() return 0 end,
  slack = Algorithms.slack_of_rate,
  no_burst = true,
}
end
