-- Block: what an agent has said about its limits, for one agent, endpoint and model. Nothing
-- passes before a given time; then one call, the canary; then so much of the mirrored limits
-- beside it (see learned.lua) as its factor says, which grows by itself to 1.
--   used     when all of this is over, in ms; 0 = nothing was said, as nearly always
--   capacity how long a canary is waited for in ms, 0 = none is sent
--   a        how far the steps of recovery are apart in ms, b = by what each multiplies
--   history  { until, level, since, proven, patience, end of the canary's lease, its start,
--            until when a woken canary is waited for, observed units per ms (of 6 units), last cut }
-- The level is the factor at `since`; since = 0 while a canary is due or under way. The first
-- step takes `patience` times as long: whoever tried again and again in vain tries less often.
-- Factors are multiplied step by step, not by a power: so the twin comes to the same bits.
-- All of it is kept in one table: Lua bears 200 local names, and these are rarely asked for.
local upstream = {
  UNTIL = 1, LEVEL = 2, SINCE = 3, PROVEN = 4, PATIENCE = 5, CANARY_END = 6, CANARY_AT = 7, AWAITED = 8, OBSERVED = 8, CUT_AT = 15,
  MOST_PATIENCE = 10, LEAST_LEVEL = 0.01, TIMES = { 1, 3, 6, 7, 8, 15 },
}
-- When a canary comes back nobody knows. Longer than a worker holds a call: it waits in line.
upstream.CANARY_LOOK_MS = 2500
-- How long a woken canary is waited for before another one is woken.
upstream.CANARY_AWAITED_MS = 5000

-- How often the factor has grown by a time.
function upstream.steps_until(history, at)
  local past = at - history[upstream.SINCE] - history.every * history[upstream.PATIENCE]
  return past < 0 and 0 or 1 + floor(past / history.every)
end

function upstream.level_after(history, steps)
  local factor = history[upstream.LEVEL]
  for _ = 1, steps do
    if factor >= 1 then
      return 1
    end
    factor = factor * history.grows
  end
  return min(1, factor)
end

function upstream.factor_at(history, at)
  return history[upstream.SINCE] == 0 and history[upstream.LEVEL] or upstream.level_after(history, upstream.steps_until(history, at))
end

-- How long it takes until nothing is cut any more.
function upstream.time_to_recover(history)
  local steps, factor = 0, history[upstream.LEVEL]
  while factor < 1 do
    steps, factor = steps + 1, factor * history.grows
  end
  return steps == 0 and 0 or history.every * (history[upstream.PATIENCE] + steps - 1)
end

-- Calls fn(length in ms, factor) for each step of recovery from a time on, until it returns something.
function upstream.each_step(history, from, fn)
  local factor, ends = history[upstream.LEVEL], history[upstream.SINCE] + history.every * history[upstream.PATIENCE]
  from = max(from, history[upstream.SINCE])
  while true do
    if factor >= 1 then
      return fn(math.huge, 1)
    end
    if ends > from then
      local found = fn(ends - from, factor)
      if found then
        return found
      end
      from = ends
    end
    factor, ends = factor * history.grows, ends + history.every
  end
end

algorithms[4] = {
  open = function(limit, list)
    local history = list or { 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
    history.every, history.grows = limit[LIMIT_A], limit[LIMIT_B]
    return history
  end,
  roll = function(_, used, debt, from, now, history)
    if from > now then
      -- The clock was set back: what was said is as long ago as it was.
      for _, place in ipairs(upstream.TIMES) do
        history[place] = history[place] > 0 and max(1, history[place] - (from - now)) or 0
      end
      return max(0, used - (from - now)), debt
    end
    history.over = used <= now
    return history.over and 0 or used, debt
  end,
  wait = function(_, used, _, now, _, ahead, history)
    if used <= now then
      return 0
    end
    local canary = history[upstream.SINCE] == 0
    if history[upstream.UNTIL] > now then
      -- Its canary is woken a little ahead: the others are not.
      local behind = canary and ahead > 0 and history[upstream.AWAITED] > now
      return wait_up(history[upstream.UNTIL] - now + (behind and upstream.CANARY_LOOK_MS or 0))
    end
    if not canary then
      return 0
    end
    if history[upstream.CANARY_END] > now then
      return wait_up(min(upstream.CANARY_LOOK_MS, history[upstream.CANARY_END] - now))
    end
    return ahead > 0 and wait_up(upstream.CANARY_LOOK_MS) or 0
  end,
  refundable = function()
    return false
  end,
  ttl = function(_, used, _, now)
    return used - now
  end,
  kept = function(history)
    return history
  end,
  slack = function()
    return 0
  end,
  no_burst = true,
  no_cost = true,
}
