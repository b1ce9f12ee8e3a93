-- Block: nothing passes before a given time. What an agent asked for with a 429;
-- `used` is that time in ms.
algorithms[4] = {
  roll = function(state, limit, from, now)
    if state.used <= now then
      state.used = 0
    end
  end,
  wait = function(state, limit, now)
    return state.used > now and wait_up(state.used - now) or 0
  end,
  refundable = function()
    return false
  end,
  ttl = function(state, limit, now)
    return state.used - now
  end,
}
