-- Fixed window: `capacity` per window. `window` is its length and `offset` how far its borders are
-- from the epoch, in ms. Windows of a calendar differ in length (months, days with a change of the
-- clocks): their borders come with the limit, as many as can matter now, and beyond them `window`
-- is their usual length. Twice the capacity may pass around a border; that is the algorithm's known
-- price. Overrun is carried into the windows that follow.
-- Windows before the first border are counted as if each were the longest (25 hours, 31 days), so
-- that no more of a debt is taken for paid back than surely was.
do
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local LONGEST = 25 / 24

local function window_of(limit, at)
  local borders = limit.borders
  if not borders then return floor((at - limit.offset) / limit.window) end
  local count = #borders
  if at < borders[1] then
    return 1 + floor((at - borders[1]) / (limit.window * LONGEST))
  elseif at >= borders[count] then
    return count + floor((at - borders[count]) / limit.window)
  end
  local window = 1
  while at >= borders[window + 1] do
    window = window + 1
  end
  return window
end

-- When a window begins.
local function begin_of(limit, window)
  local borders = limit.borders
  if not borders then return window * limit.window + limit.offset end
  local nearest = max(1, min(#borders, window))
  return borders[nearest] + (window - nearest) * limit.window
end

-- The present window, and when it ends: the same for all meters of a batch, so it is remembered with the limit.
local function present_of(limit, now)
  if limit.present_at ~= now then
    limit.present_at, limit.present = now, window_of(limit, now)
    limit.present_end = begin_of(limit, limit.present + 1)
  end
  return limit.present, limit.present_end
end

Algorithms[ALGORITHM.FIXED_WINDOW] = {
  roll = function(limit, used, debt, from, now)
    local passed = present_of(limit, now) - window_of(limit, from)
    if passed <= 0 then return used, debt end
    local capacity = limit.capacity
    local carried = max(0, debt - capacity * (passed - 1))
    used = min(carried, capacity)
    return used, carried - used
  end,
  wait = function(limit, used, debt, now, cost, ahead)
    local capacity = limit.capacity
    -- Above the capacity only after it was lowered; that does not outlive the window.
    local over = min(used, capacity) + debt + cost + ahead - capacity
    if over <= limit.slack then return 0 end
    return Algorithms.wait_up(begin_of(limit, window_of(limit, now) + max(1, ceil(over / capacity))) - now)
  end,
  refundable = function(limit, at, now) return window_of(limit, at) == window_of(limit, now) end,
  ttl = function(limit, _, debt, now)
    local capacity = limit.capacity
    local window, ends = present_of(limit, now)
    if debt == 0 or capacity == 0 then return ends - now end
    return begin_of(limit, window + 1 + ceil(debt / capacity)) - now
  end,
  tells_reset = true,
  slack = Algorithms.slack_of_sum,
  rounds = true,
}
end
