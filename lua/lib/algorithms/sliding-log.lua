-- Sliding log: exactly what was charged in the last a ms, each charge by itself. A sorted
-- set per limit and scope value holds them, by the time of the charge:
--   <amount>|<token>|<ledger or id>     what a call was charged; <token>+ its overrun
--   history  { key, shift }: the scores are `shift` ms less than the times
-- What is used is kept with the meter, so that only what has run out since need be read.
-- Its memory grows with the calls of a window, about 100 bytes each: for limits of some
-- thousands. Overrun beyond the capacity is dated ahead: see sliding-window.lua.
local READ_AT_ONCE = 64

local function bound(at)
  return string.format('%.17g', at)
end

local function amount_of(member)
  return tonumber(string.match(member, '^[^|]+'))
end

local function sum_of(members)
  local sum = 0
  for _, member in ipairs(members) do
    sum = sum + amount_of(member)
  end
  return sum
end

local function add_to_log(history, amount, of, at)
  redis.call('ZADD', history.key, bound(at - history.shift), bound(amount) .. '|' .. of)
end

-- Debt is dated a window after the present, each window's capacity after the one before.
local function date_debt(limit, history, amount, of, now)
  local capacity, window = limit[LIMIT_CAPACITY], limit[LIMIT_A]
  local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
  local at = now
  if last[1] and tonumber(last[2]) + history.shift > now then
    at = tonumber(last[2]) + history.shift
    local fill = min(amount, max(0, capacity - amount_of(last[1])))
    if fill > 0 then
      redis.call('ZREM', history.key, last[1])
      add_to_log(history, amount_of(last[1]) + fill, string.match(last[1], '|(.*)$'), at)
      amount = amount - fill
    end
  end
  local whole = floor(amount / capacity)
  if whole > 0 then
    at = at + whole * window
    add_to_log(history, whole * capacity, of .. '*', at)
  end
  if amount > whole * capacity then
    add_to_log(history, amount - whole * capacity, of .. '+', at + window)
  end
end

algorithms[7] = {
  keyed = true,
  open = function(_, list, key)
    return { key = key, shift = list and list[1] or 0 }
  end,
  roll = function(limit, used, _, from, now, history)
    if from > now then
      -- The clock was set back: what was charged is as long ago as it was.
      history.shift = history.shift + now - from
    end
    local ended = now - limit[LIMIT_A] - history.shift
    if now - from >= limit[LIMIT_A] then
      used = sum_of(redis.call('ZRANGEBYSCORE', history.key, '(' .. bound(ended), '+inf'))
    else
      used = used - sum_of(redis.call('ZRANGEBYSCORE', history.key, '(' .. bound(from - limit[LIMIT_A] - history.shift), bound(ended)))
    end
    return max(0, used), 0
  end,
  wait = function(limit, used, _, now, cost, ahead, history)
    local over = used + cost + ahead - limit[LIMIT_CAPACITY]
    if over <= limit.slack then
      return 0
    end
    local rounds = used > 0 and max(0, ceil((over - limit.slack) / used) - 1) or 0
    over = over - rounds * used
    local from, offset = '(' .. bound(now - limit[LIMIT_A] - history.shift), 0
    repeat
      local some = redis.call('ZRANGEBYSCORE', history.key, from, '+inf', 'WITHSCORES', 'LIMIT', offset, READ_AT_ONCE)
      for i = 1, #some, 2 do
        over = over - amount_of(some[i])
        if over <= limit.slack then
          return wait_up(tonumber(some[i + 1]) + history.shift + (rounds + 1) * limit[LIMIT_A] - now)
        end
      end
      offset = offset + READ_AT_ONCE
    until #some == 0
    return wait_up(limit[LIMIT_A] * (1 + ahead / limit[LIMIT_CAPACITY]))
  end,
  ttl = function(limit, _, _, now, history)
    local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
    return last[2] and tonumber(last[2]) + history.shift + limit[LIMIT_A] - now or 0
  end,
  charge = function(_, history, used, cost, now, of)
    add_to_log(history, cost, of, now)
    return used + cost
  end,
  overrun = function(limit, history, used, amount, now, of)
    local capacity = limit[LIMIT_CAPACITY]
    local beyond = capacity > 0 and max(0, min(amount, used + amount - capacity)) or 0
    if amount > beyond then
      add_to_log(history, amount - beyond, of .. '+', now)
    end
    if beyond > 0 then
      date_debt(limit, history, beyond, of, now)
    end
    return used + amount
  end,
  refund = function(limit, history, used, amount, at, now, of, charged)
    local left = amount
    while left > 0 do
      local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
      if not last[1] or tonumber(last[2]) + history.shift <= now then
        break
      end
      redis.call('ZREM', history.key, last[1])
      local taken = min(left, amount_of(last[1]))
      if amount_of(last[1]) > taken then
        add_to_log(history, amount_of(last[1]) - taken, string.match(last[1], '|(.*)$'), tonumber(last[2]) + history.shift)
      end
      left = left - taken
    end
    if left > 0 and at > now - limit[LIMIT_A] and redis.call('ZREM', history.key, bound(charged) .. '|' .. of) == 1 then
      local taken = min(left, charged)
      if charged > taken then
        add_to_log(history, charged - taken, of, at)
      end
      left = left - taken
    end
    return max(0, used - (amount - left)), left < amount
  end,
  kept = function(history)
    return history.shift ~= 0 and { history.shift } or nil
  end,
  -- Forgets what has run out; returns what is used once nothing is left.
  tidy = function(limit, history, used, now, ttl)
    redis.call('ZREMRANGEBYSCORE', history.key, '-inf', bound(now - limit[LIMIT_A] - history.shift))
    redis.call('PEXPIRE', history.key, ttl)
    return redis.call('EXISTS', history.key) == 1 and used or 0
  end,
  slack = slack_of_sum,
}
