-- Lines: a sorted set of call ids per rule and scope value, by place. Fixed keys:
--   KEYS[1] lines    which lines there are, by the time the first of each can move
--   KEYS[2] passes   calls that were woken and have not started, by when to look after them
--   KEYS[3] sequence when the last call arrived that got a place
--   KEYS[4] queued   what those in a line will cost in each unit, packed, per line
--   KEYS[5] wake     the channel on which drainers listen
--   KEYS[6] figures  see lib/figures.lua
--   KEYS[7] deadlines calls in a line that wait no longer than until a time, by that time
--
-- A place is a time in ms: that of the arrival, and for each step of priority as much earlier
-- as a call has to wait to be worth a step. So nobody is overtaken for ever.
local AGEING_MS = 60000
-- No two calls share a place, however many arrive at once.
local APART_MS = 2 ^ -10
local PLACES_TTL = string.format('%.0f', 86400000)
local QUEUED_TTL = string.format('%.0f', 30 * 86400000)
-- Whoever was sent back by its agent goes before all who never started.
local RETURNED_BEFORE_MS = 2 ^ 39
local QUEUED_FORMAT = '<' .. string.rep('d', COST_UNITS)

local function text(number)
  return string.format('%.17g', number)
end

local function next_arrival(now)
  return max(now, (tonumber(redis.call('GET', KEYS[3]) or 0) or 0) + APART_MS)
end

-- The place that a call would get now.
local function place_now(priority, now)
  return next_arrival(now) - priority * AGEING_MS
end

local function next_place(priority, returned, now)
  local arrival = next_arrival(now)
  redis.call('SET', KEYS[3], text(arrival), 'PX', PLACES_TTL)
  return arrival - priority * AGEING_MS - (returned and RETURNED_BEFORE_MS or 0)
end

local function line_of(meter)
  if meter.line_length == nil then
    meter.line_length = redis.call('ZCARD', line_key_of(meter))
  end
  return meter.line_length
end

local function read_queued(line_key)
  local packed = redis.call('HGET', KEYS[4], line_key)
  return packed and { struct.unpack(QUEUED_FORMAT, packed) } or { 0, 0, 0, 0, 0, 0 }
end

-- What the calls in a meter's line will cost in a unit.
local function queued_cost(meter, unit)
  if unit == UNIT_NONE then
    return line_of(meter)
  end
  if meter.queued == nil then
    meter.queued = read_queued(line_key_of(meter))
  end
  return meter.queued[unit]
end

-- @param sign 1 for a call that joins, -1 for one that leaves
local function add_queued(line_key, call, sign)
  local queued = read_queued(line_key)
  for unit = 1, COST_UNITS do
    queued[unit] = max(0, queued[unit] + sign * call[CALL_COST + unit])
  end
  redis.call('HSET', KEYS[4], line_key, struct.pack(QUEUED_FORMAT, unpack(queued, 1, COST_UNITS)))
  redis.call('PEXPIRE', KEYS[4], QUEUED_TTL)
end

-- When a call that begins to wait gives up, 0 = never.
-- @param longest how long it may wait by its rules, 0 = as long as it takes
local function deadline_of(call, now, longest)
  local own = call.max_wait or 0
  longest = own > 0 and own or longest
  local given = call.deadline or 0
  if longest <= 0 then
    return given
  end
  return given > 0 and min(given, now + longest) or now + longest
end

-- Puts the call into the line of a meter; the first of a line sets when to look at it.
-- @param deadline when it gives up, 0 = never
local function join_line(call, meter, place, moves, deadline, wait, now, lookahead)
  redis.call('ZADD', line_key_of(meter), text(place), call[CALL_ID])
  save_waiting(call[CALL_RECORD_KEY], place, moves, deadline, line_key_of(meter), call[CALL_JSON], wait)
  if deadline > 0 then
    redis.call('ZADD', KEYS[7], text(deadline), call[CALL_ID])
  end
  add_queued(line_key_of(meter), call, 1)
  meter.queued = nil
  meter.line_length = line_of(meter) + 1
  local rank = meter.line_length == 1 and 0 or redis.call('ZRANK', line_key_of(meter), call[CALL_ID])
  if rank == 0 then
    local due = text(math.max(now, now + wait - lookahead))
    if redis.call('ZADD', KEYS[1], 'LT', 'CH', due, line_key_of(meter)) == 1 then
      redis.call('PUBLISH', KEYS[5], due)
    end
  end
  return rank
end

local function leave_line(line_key, call)
  local known = call[CALL_PARSED]
  if known and (known.deadline or 0) > 0 then
    redis.call('ZREM', KEYS[7], call[CALL_ID])
  end
  if redis.call('ZREM', line_key, call[CALL_ID]) == 1 then
    if redis.call('EXISTS', line_key) == 0 then
      redis.call('ZREM', KEYS[1], line_key)
      redis.call('HDEL', KEYS[4], line_key)
    else
      add_queued(line_key, call, -1)
    end
  end
end

-- Room came back at this meter: whoever waits there is looked at now.
local function stir(meter, now)
  if redis.call('EXISTS', line_key_of(meter)) == 1 then
    if redis.call('ZADD', KEYS[1], 'LT', 'CH', text(now), line_key_of(meter)) == 1 then
      redis.call('PUBLISH', KEYS[5], text(now))
    end
  end
end

-- The same at all meters of a call.
local function stir_all(batch, call, now)
  for position = CALL_METERS, #call do
    stir(batch.meters[call[position]], now)
  end
end
