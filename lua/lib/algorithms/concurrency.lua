-- Concurrency: at most `capacity` calls at once, a = lease in ms. What is used is
-- not counted but seen: a sorted set of call ids by the end of their leases, so the
-- slot of a worker that died comes back by itself. When one comes free before that
-- nobody can know; the wait is the longest it can take, to the end of the first lease
-- (the hint).
algorithms[3] = {
  roll = function(_, used, debt)
    return used, debt
  end,
  wait = function(limit, used, _, now, need, first_end)
    if used + need <= limit[LIMIT_CAPACITY] then
      return 0
    end
    return wait_up(max(1, (first_end or (now + limit[LIMIT_A])) - now))
  end,
  always_refundable = true,
  ttl = function()
    return 0
  end,
}
