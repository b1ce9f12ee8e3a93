-- Concurrency: at most `capacity` calls at once, a = lease in ms. What is used is
-- not counted but seen: a sorted set of call ids by the end of their leases, so the
-- slot of a worker that died comes back by itself. `used` and `lease_end` are filled
-- in by the meter when it loads the set. When a slot comes free nobody can know;
-- the wait is the latest it can take, to the end of the next lease.
algorithms[3] = {
  roll = function() end,
  wait = function(state, limit, now, need)
    if state.used + need <= limit[LIMIT_CAPACITY] then
      return 0
    end
    return wait_up(math.max(1, (state.lease_end or (now + limit[LIMIT_A])) - now))
  end,
  refundable = function()
    return true
  end,
  ttl = function()
    return 0
  end,
}
