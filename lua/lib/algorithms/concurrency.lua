-- Concurrency: at most `capacity` calls at once; `lease` is how long a slot outlives the last sign of
-- life of its worker, in ms. What is used is not counted but seen: a sorted set of call ids by the
-- end of their leases, so the slot of a worker that died comes back by itself. When a slot comes free
-- before that is not known; the wait is the longest it can take, to the end of the first lease.
--   history  { key, first_end }
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
    end
    return used
  end,
  roll = function(_, used, debt) return used, debt end,
  wait = function(limit, used, _, now, cost, ahead, history)
    if used + cost + ahead <= limit.capacity then return 0 end
    return Algorithms.wait_up(max(1, (history.first_end or (now + limit.lease)) - now))
  end,
  always_refundable = true,
  ttl = function() return 0 end,
  charge = function(limit, history, used, _, now, id)
    redis.call('ZREMRANGEBYSCORE', history.key, '-inf', text(now))
    redis.call('ZADD', history.key, text(now + limit.lease), id)
    redis.call('PEXPIRE', history.key, Clock.px(limit.lease))
    return used + 1
  end,
  overrun = function(_, _, used) return used end,
  refund = function(_, history, used, _, _, now, id)
    local ends = redis.call('ZSCORE', history.key, id)
    if not ends then return used, false end
    redis.call('ZREM', history.key, id)
    return tonumber(ends) > now and max(0, used - 1) or used, true
  end,
  slack = function() return 0 end,
}
end
