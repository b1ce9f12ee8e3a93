-- Block: nothing passes before a given time. What an agent asked for with a 429;
-- `used` is that time in ms.
algorithms[4] = {
  roll = function(_, used, debt, _, now)
    return used > now and used or 0, debt
  end,
  wait = function(_, used, _, now)
    return used > now and wait_up(used - now) or 0
  end,
  refundable = function()
    return false
  end,
  ttl = function(_, used, _, now)
    return used - now
  end,
  slack = function()
    return 0
  end,
  no_burst = true,
  no_cost = true,
}
