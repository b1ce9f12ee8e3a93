-- Clock: the time of a decision, and how long the keys live that it writes.
--
-- Decisions use Redis' own clock, in ms with microseconds behind the point, so skew between
-- machines changes nothing. Tests and simulations give a time of their own. Keys end by Redis'
-- clock all the same; beside a given time, which may stand still, they live an hour at least.
local Clock = {}
do
local ceil, max, format = math.ceil, math.max, string.format

local GIVEN_TTL_MS = 3600000
-- No key outlives a year, whatever the debt.
local LONGEST_TTL_MS = 366 * 86400000
local LONGEST_TTL = format('%.0f', LONGEST_TTL_MS)

local shortest_ttl_ms = 1
-- Many keys of a batch end at the same time, and printing a number costs as much as reading a key.
local last_time, last_text

-- @param given '' for Redis' clock, else the time in ms
function Clock.now(given)
  if given ~= '' then
    shortest_ttl_ms = GIVEN_TTL_MS
    return tonumber(given)
  end
  shortest_ttl_ms = 1
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

function Clock.is_given()
  return shortest_ttl_ms == GIVEN_TTL_MS
end

-- A number as text that loses no bit of it.
function Clock.text(number)
  return format('%.17g', number)
end

-- A time to live as PX and PEXPIRE take it: whole ms, rounded up.
function Clock.px(ms)
  if ms >= LONGEST_TTL_MS then return LONGEST_TTL end
  return format('%d', max(shortest_ttl_ms, ceil(ms)))
end

-- Saves a value for a time. PXAT is cheaper in Redis than PX.
function Clock.save(key, value, now, ms)
  if shortest_ttl_ms == GIVEN_TTL_MS or ms >= LONGEST_TTL_MS then
    redis.call('SET', key, value, 'PX', Clock.px(ms))
    return
  end
  local at = now + ms
  at = at - at % 1 + 1
  if at ~= last_time then last_time, last_text = at, format('%.0f', at) end
  redis.call('SET', key, value, 'PXAT', last_text)
end
end
