-- Token bucket (Turner 1986): `capacity` is the burst, a = tokens per ms.
-- Kept as what is missing from a full bucket, so an absent meter is a full one.
algorithms[1] = {
  roll = function(state, limit, from, now)
    local back = math.max(0, now - from) * limit[LIMIT_A]
    local debt = math.max(0, state.debt - back)
    state.used = math.min(limit[LIMIT_CAPACITY], math.max(0, state.used - (back - (state.debt - debt))))
    state.debt = debt
  end,
  wait = function(state, limit, now, need)
    local over = state.used + state.debt + need - limit[LIMIT_CAPACITY]
    if over <= 0 then
      return 0
    end
    return wait_up(over / limit[LIMIT_A])
  end,
  refundable = function()
    return true
  end,
  ttl = function(state, limit)
    return (state.used + state.debt) / limit[LIMIT_A]
  end,
}
