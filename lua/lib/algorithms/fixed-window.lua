-- Fixed window: `capacity` per window, a = window in ms, b = offset of its borders
-- from the epoch in ms. Twice the capacity may pass around a border; that is the
-- algorithm's known price. Overrun is carried into the windows that follow.
local function window_of(limit, at)
  return math.floor((at - limit[LIMIT_B]) / limit[LIMIT_A])
end

algorithms[2] = {
  roll = function(state, limit, from, now)
    local capacity = limit[LIMIT_CAPACITY]
    local passed = window_of(limit, now) - window_of(limit, from)
    if passed > 0 then
      local carried = math.max(0, state.debt - capacity * (passed - 1))
      state.used = math.min(carried, capacity)
      state.debt = carried - state.used
    end
  end,
  wait = function(state, limit, now, need)
    local capacity = limit[LIMIT_CAPACITY]
    -- Above the capacity only after it was lowered; that does not outlive the window.
    local over = math.min(state.used, capacity) + state.debt + need - capacity
    if over <= 0 then
      return 0
    end
    local border = (window_of(limit, now) + math.ceil(over / capacity)) * limit[LIMIT_A] + limit[LIMIT_B]
    return wait_up(border - now)
  end,
  refundable = function(limit, at, now)
    return window_of(limit, at) == window_of(limit, now)
  end,
  ttl = function(state, limit, now)
    local capacity = limit[LIMIT_CAPACITY]
    local windows = 1 + (capacity > 0 and math.ceil(state.debt / capacity) or 0)
    return (window_of(limit, now) + windows) * limit[LIMIT_A] + limit[LIMIT_B] - now
  end,
}
