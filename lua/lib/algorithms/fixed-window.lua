-- Fixed window: `capacity` per window, a = window in ms, b = offset of its borders from
-- the epoch in ms. Windows of a calendar differ in length (months, days with a change of
-- the clocks): their borders come with the limit, as many as can matter now, and beyond
-- them a is their usual length. Twice the capacity may pass around a border; that is the
-- algorithm's known price. Overrun is carried into the windows that follow.
-- Long ago, windows are counted as if each were the longest (25 hours, 31 days): so no more of
-- a debt is taken for paid back than surely was.
-- In a block of its own: Lua bears 200 local names at once.
do
local LONGEST = 25 / 24

local function window_of(limit, at)
  local borders = limit[LIMIT_BORDERS]
  if not borders then
    return floor((at - limit[LIMIT_B]) / limit[LIMIT_A])
  end
  local count = #borders
  if at < borders[1] then
    return 1 + floor((at - borders[1]) / (limit[LIMIT_A] * LONGEST))
  elseif at >= borders[count] then
    return count + floor((at - borders[count]) / limit[LIMIT_A])
  end
  local window = 1
  while at >= borders[window + 1] do
    window = window + 1
  end
  return window
end

-- When a window begins.
local function begin_of(limit, window)
  local borders = limit[LIMIT_BORDERS]
  if not borders then
    return window * limit[LIMIT_A] + limit[LIMIT_B]
  end
  local nearest = max(1, min(#borders, window))
  return borders[nearest] + (window - nearest) * limit[LIMIT_A]
end

algorithms[2] = {
  roll = function(limit, used, debt, from, now)
    local passed = window_of(limit, now) - window_of(limit, from)
    if passed <= 0 then
      return used, debt
    end
    local capacity = limit[LIMIT_CAPACITY]
    local carried = max(0, debt - capacity * (passed - 1))
    used = min(carried, capacity)
    return used, carried - used
  end,
  wait = function(limit, used, debt, now, cost, ahead)
    local capacity = limit[LIMIT_CAPACITY]
    -- Above the capacity only after it was lowered; that does not outlive the window.
    local over = min(used, capacity) + debt + cost + ahead - capacity
    if over <= limit.slack then
      return 0
    end
    return wait_up(begin_of(limit, window_of(limit, now) + max(1, ceil(over / capacity))) - now)
  end,
  refundable = function(limit, at, now)
    return window_of(limit, at) == window_of(limit, now)
  end,
  ttl = function(limit, _, debt, now)
    local capacity = limit[LIMIT_CAPACITY]
    local windows = 1 + (capacity > 0 and ceil(debt / capacity) or 0)
    return begin_of(limit, window_of(limit, now) + windows) - now
  end,
  tells_reset = true,
  slack = slack_of_sum,
}
end
