-- Fixed window: `capacity` per window, a = window in ms, b = offset of its borders
-- from the epoch in ms. Twice the capacity may pass around a border; that is the
-- algorithm's known price. Overrun is carried into the windows that follow.
local function window_of(limit, at)
  return floor((at - limit[LIMIT_B]) / limit[LIMIT_A])
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
  wait = function(limit, used, debt, now, need)
    local capacity = limit[LIMIT_CAPACITY]
    -- Above the capacity only after it was lowered; that does not outlive the window.
    local over = min(used, capacity) + debt + need - capacity
    if over <= 0 then
      return 0
    end
    local border = (window_of(limit, now) + ceil(over / capacity)) * limit[LIMIT_A] + limit[LIMIT_B]
    return wait_up(border - now)
  end,
  refundable = function(limit, at, now)
    return window_of(limit, at) == window_of(limit, now)
  end,
  ttl = function(limit, used, debt, now)
    local capacity = limit[LIMIT_CAPACITY]
    local windows = 1 + (capacity > 0 and ceil(debt / capacity) or 0)
    return (window_of(limit, now) + windows) * limit[LIMIT_A] + limit[LIMIT_B] - now
  end,
}
