-- Sliding log: exactly what was charged in the last a ms, each charge by itself. A sorted
-- set per limit and scope value holds them, by the time of the charge:
--   <amount>|<token>|<ledger or id>     what a call was charged; with + behind it its overrun;
--                                       with ~ behind it a second one of the same name
--   history  { key, shift, ended }: the scores are `shift` ms less than the times; up to
--            the score `ended` it has run out
-- What is used is kept with the meter, so that only what has run out since need be read; it
-- is the sum of what is in the set, which loses nothing that was not taken off it.
-- Its memory grows with the calls of a window, about 100 bytes each: for limits of some
-- thousands. Overrun beyond the capacity is dated ahead: see sliding-window.lua.
-- In a block of its own: Lua bears 200 local names at once.
do
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
  local member = bound(amount) .. '|' .. of
  -- Nothing takes the place of another: a call may be charged the same twice.
  while redis.call('ZADD', history.key, 'NX', bound(at - history.shift), member) == 0 do
    member = member .. '~'
  end
end

-- What is left of a limit that its rule had no more, and has again, is not counted.
local function begin_log(history, used)
  if used <= 0 then
    redis.call('DEL', history.key)
  end
end

-- Where the clock was set back, scores moved with their shift; the last bits of a double do not.
local SAME_TIME_MS = 1

-- The member that a call was charged at a time, if it still stands.
local function charge_in_log(history, at, of, charged)
  local member, score = bound(charged) .. '|' .. of, at - history.shift
  local found = redis.call('ZSCORE', history.key, member)
  if found and math.abs(tonumber(found) - score) <= SAME_TIME_MS then
    return member
  end
  -- Charged more since (a part of it settled), or under a name that was taken.
  local own = string.match(of, '^(.-)~*$')
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', history.key, bound(score - SAME_TIME_MS), bound(score + SAME_TIME_MS))) do
    if string.match(other, '^[^|]+|(.-)~*$') == own then
      return other
    end
  end
end

-- Debt is dated a window after the present, each window's capacity after the one before.
local function date_debt(limit, history, amount, of, now)
  local capacity, window = limit[LIMIT_CAPACITY], limit[LIMIT_A]
  local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
  local at = now
  if last[1] and tonumber(last[2]) + history.shift > now then
    at = tonumber(last[2]) + history.shift
    -- With the last counts whatever was charged less than a window before it.
    local beside = redis.call('ZRANGEBYSCORE', history.key, '(' .. bound(at - window - history.shift), '+inf')
    local fill = min(amount, max(0, capacity - sum_of(beside)))
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
    local ended = bound(now - limit[LIMIT_A] - history.shift)
    history.ended = ended
    if now - from >= limit[LIMIT_A] then
      used = sum_of(redis.call('ZRANGEBYSCORE', history.key, '(' .. ended, '+inf'))
    else
      used = used - sum_of(redis.call('ZRANGEBYSCORE', history.key, '-inf', ended))
    end
    return max(0, used), 0
  end,
  wait = function(limit, used, _, now, cost, ahead, history)
    local over = used + cost + ahead - limit[LIMIT_CAPACITY]
    if over <= limit.slack then
      return 0
    end
    local rounds
    over, rounds = rounds_ahead(limit, used, over)
    local from, offset = history.ended and '(' .. history.ended or '-inf', 0
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
    return wait_up(limit[LIMIT_A] * (rounds + 1))
  end,
  ttl = function(limit, _, _, now, history)
    local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
    return last[2] and max(0, tonumber(last[2]) + history.shift + limit[LIMIT_A] - now) or 0
  end,
  charge = function(_, history, used, cost, now, of)
    begin_log(history, used)
    add_to_log(history, cost, of, now)
    return used + cost
  end,
  overrun = function(limit, history, used, amount, at, now, of)
    local beyond = beyond_capacity(limit, used, amount)
    begin_log(history, used)
    if amount > beyond then
      local own = at > now - limit[LIMIT_A] and charge_in_log(history, at, of, 0)
      if own then
        redis.call('ZREM', history.key, own)
        add_to_log(history, amount_of(own) + amount - beyond, of, at)
      else
        add_to_log(history, amount - beyond, of .. '+', now)
      end
    end
    if beyond > 0 then
      date_debt(limit, history, beyond, of, now)
    end
    return used + amount
  end,
  refund = function(limit, history, used, amount, at, now, of, charged)
    if used <= 0 then
      -- What is left in the set has run out under the limit as it was.
      return used, false
    end
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
    local own = left > 0 and at > now - limit[LIMIT_A] and charge_in_log(history, at, of, charged)
    if own then
      local there = amount_of(own)
      local taken = min(left, there)
      redis.call('ZREM', history.key, own)
      if there > taken then
        add_to_log(history, there - taken, of, at)
      end
      left = left - taken
    end
    return max(0, used - (amount - left)), left < amount
  end,
  kept = function(history)
    return history.shift ~= 0 and { history.shift } or nil
  end,
  -- Forgets what has run out; returns what is used once nothing is left.
  tidy = function(_, history, used, _, ttl)
    if history.ended then
      redis.call('ZREMRANGEBYSCORE', history.key, '-inf', history.ended)
    end
    redis.call('PEXPIRE', history.key, ttl)
    return redis.call('EXISTS', history.key) == 1 and used or 0
  end,
  tells_reset = true,
  slack = slack_of_sum,
}
end
