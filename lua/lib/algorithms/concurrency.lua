-- Concurrency: at most `capacity` calls at once; `lease` is how long a slot outlives the last sign of
-- life of its worker, in ms. What is used is not counted but seen: a sorted set of starts (by their names,
-- so that no start gives up, renews or takes the slot of another one of the same call) by the end of their
-- leases, so the slot of a worker that died comes back by itself. When a slot comes free before that is
-- not known; the wait is the longest it can take, to the end of the first lease. After Redis was away all
-- slots count as taken for a moment (lib/pulse.lua).
--   history  { key, first_end, closed }
do
local max = math.max
local text = Clock.text

Algorithms[ALGORITHM.CONCURRENCY] = {
  keyed = true,
  open = function(_, _, key) return { key = key } end,
  -- How many slots are taken, and when the first comes free at the latest.
  look = function(limit, history, now)
    local after = '(' .. text(now)
    local used = redis.call('ZCOUNT', history.key, after, '+inf')
    if used >= limit.capacity then
      local first = redis.call('ZRANGE', history.key, after, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
      history.first_end = tonumber(first[2])
      return used
    end
    local opens = Pulse.closed_until(limit.lease, now)
    if not opens then return used end
    history.closed, history.first_end = true, opens
    return limit.capacity
  end,
  roll = function(_, used, debt) return used, debt end,
  wait = function(limit, used, _, now, cost, ahead, history)
    if used + cost + ahead <= limit.capacity then return 0 end
    return Algorithms.wait_up(max(1, (history.first_end or (now + limit.lease)) - now))
  end,
  always_refundable = true,
  ttl = function() return 0 end,
  charge = function(limit, history, used, _, now, name)
    redis.call('ZREMRANGEBYSCORE', history.key, '-inf', text(now))
    redis.call('ZADD', history.key, text(now + limit.lease), name)
    redis.call('PEXPIRE', history.key, Clock.px(limit.lease))
    return used + 1
  end,
  overrun = function(_, _, used) return used end,
  refund = function(_, history, used, _, _, now, name)
    local ends = redis.call('ZSCORE', history.key, name)
    if not ends then return used, false end
    redis.call('ZREM', history.key, name)
    return tonumber(ends) > now and not history.closed and max(0, used - 1) or used, true
  end,
  slack = function() return 0 end,
}
end
