-- Sliding log: exactly the charges of the last `window` ms, each by itself. A sorted set per limit
-- and scope value holds them, by the time of the charge:
--   <amount>|<token>|<ledger or id>     what a call was charged; followed by + its overrun; followed
--                                       by ~ a second charge of the same name
--   history  { key, shift, ended }: the scores are `shift` ms less than the times; members up to
--            the score `ended` have left the window
-- What is used is kept with the meter, so that only members which left since need be read. It is the
-- sum of the set: whenever a member is removed, its amount is taken off.
-- Its memory grows with the calls of a window, about 100 bytes each: for limits of some thousands.
-- Overrun beyond the capacity is dated ahead, as in sliding-window.lua.
do
local floor, max, min = math.floor, math.max, math.min
local bound, wait_up, rounds_ahead, beyond_capacity = Clock.text, Algorithms.wait_up, Algorithms.rounds_ahead, Algorithms.beyond_capacity
local READ_AT_ONCE = 64

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
  -- No charge replaces another: a call may be charged the same amount twice.
  while redis.call('ZADD', history.key, 'NX', bound(at - history.shift), member) == 0 do
    member = member .. '~'
  end
end

-- A limit that was removed from its rule and added again starts anew: what its set still holds goes.
local function begin_log(history, used)
  if used <= 0 then redis.call('DEL', history.key) end
end

-- Where the clock was set back, scores moved with their shift by more than this.
local SAME_TIME_MS = 1

-- The member of a call's charge at a time, if it is still there.
local function charge_in_log(history, at, of, charged)
  local member, score = bound(charged) .. '|' .. of, at - history.shift
  local found = redis.call('ZSCORE', history.key, member)
  if found and math.abs(tonumber(found) - score) <= SAME_TIME_MS then return member end
  -- Its amount changed since (settled in part), or its name was taken.
  local own = string.match(of, '^(.-)~*$')
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', history.key, bound(score - SAME_TIME_MS), bound(score + SAME_TIME_MS))) do
    if string.match(other, '^[^|]+|(.-)~*$') == own then return other end
  end
end

-- Debt is dated a window after the present, each window's capacity after the one before.
local function date_debt(limit, history, amount, of, now)
  local capacity, window = limit.capacity, limit.window
  local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
  local at = now
  if last[1] and tonumber(last[2]) + history.shift > now then
    at = tonumber(last[2]) + history.shift
    -- All charges less than a window before the last one count together with it.
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
  if amount > whole * capacity then add_to_log(history, amount - whole * capacity, of .. '+', at + window) end
end

Algorithms[ALGORITHM.SLIDING_LOG] = {
  keyed = true,
  open = function(_, list, key) return { key = key, shift = list and list[1] or 0 } end,
  roll = function(limit, used, _, from, now, history)
    if from > now then
      -- The clock was set back: charges move along, so that they are as long ago as they were.
      history.shift = history.shift + now - from
    end
    local ended = bound(now - limit.window - history.shift)
    history.ended = ended
    if now - from >= limit.window then
      used = sum_of(redis.call('ZRANGEBYSCORE', history.key, '(' .. ended, '+inf'))
    else
      used = used - sum_of(redis.call('ZRANGEBYSCORE', history.key, '-inf', ended))
    end
    return max(0, used), 0
  end,
  wait = function(limit, used, _, now, cost, ahead, history)
    local over = used + cost + ahead - limit.capacity
    if over <= limit.slack then return 0 end
    local rounds
    over, rounds = rounds_ahead(limit, used, over)
    local from, offset = history.ended and '(' .. history.ended or '-inf', 0
    repeat
      local some = redis.call('ZRANGEBYSCORE', history.key, from, '+inf', 'WITHSCORES', 'LIMIT', offset, READ_AT_ONCE)
      for i = 1, #some, 2 do
        over = over - amount_of(some[i])
        if over <= limit.slack then
          return wait_up(tonumber(some[i + 1]) + history.shift + (rounds + 1) * limit.window - now)
        end
      end
      offset = offset + READ_AT_ONCE
    until #some == 0
    return wait_up(limit.window * (rounds + 1))
  end,
  ttl = function(limit, _, _, now, history)
    local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
    return last[2] and max(0, tonumber(last[2]) + history.shift + limit.window - now) or 0
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
      local own = at > now - limit.window and charge_in_log(history, at, of, 0)
      if own then
        redis.call('ZREM', history.key, own)
        add_to_log(history, amount_of(own) + amount - beyond, of, at)
      else
        add_to_log(history, amount - beyond, of .. '+', now)
      end
    end
    if beyond > 0 then date_debt(limit, history, beyond, of, now) end
    return used + amount
  end,
  refund = function(limit, history, used, amount, at, now, of, charged)
    if used <= 0 then
      -- What the set still holds has left the window under the limit as it was.
      return used, false
    end
    local left = amount
    while left > 0 do
      local last = redis.call('ZRANGE', history.key, 0, 0, 'REV', 'WITHSCORES')
      if not last[1] or tonumber(last[2]) + history.shift <= now then break end
      redis.call('ZREM', history.key, last[1])
      local taken = min(left, amount_of(last[1]))
      if amount_of(last[1]) > taken then
        add_to_log(history, amount_of(last[1]) - taken, string.match(last[1], '|(.*)$'), tonumber(last[2]) + history.shift)
      end
      left = left - taken
    end
    local own = left > 0 and at > now - limit.window and charge_in_log(history, at, of, charged)
    if own then
      local there = amount_of(own)
      local taken = min(left, there)
      redis.call('ZREM', history.key, own)
      if there > taken then add_to_log(history, there - taken, of, at) end
      left = left - taken
    end
    return max(0, used - (amount - left)), left < amount
  end,
  kept = function(history) return history.shift ~= 0 and { history.shift } or nil end,
  -- Forgets charges that have left the window. The set outlives the last of them by as long as `roll` reads it to
  -- find what has left since: claims keep the meter, and a meter whose set ended first would stay used up.
  tidy = function(limit, history, used, ends)
    if history.ended then redis.call('ZREMRANGEBYSCORE', history.key, '-inf', history.ended) end
    redis.call('PEXPIRE', history.key, Clock.px(max(ends, limit.window) + 1))
    return redis.call('EXISTS', history.key) == 1 and used or 0
  end,
  tells_reset = true,
  slack = Algorithms.slack_of_sum,
  rounds = true,
  slides = true,
}
end
