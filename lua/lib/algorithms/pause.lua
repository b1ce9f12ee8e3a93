-- Pause: nothing passes until it is taken away, and when that is nobody knows. Its wait is
-- longer than a worker holds a call, and short enough for a call that got into its line by a
-- policy of a moment ago to be looked at soon.
algorithms[8] = {
  roll = function()
    return 0, 0
  end,
  wait = function()
    return 5000
  end,
  refundable = function()
    return false
  end,
  ttl = function()
    return 0
  end,
  slack = function()
    return 0
  end,
  no_burst = true,
  no_cost = true,
  no_end = true,
}
