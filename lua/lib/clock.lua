-- Redis' own clock, in milliseconds with microseconds behind the point, so that
-- skew between machines changes nothing. A test or a simulation gives its own.
--
-- Keys end by Redis' clock, whatever time is given: beside a given time, which may stand
-- still, they are kept for an hour at least.
local shortest_ttl_ms

local function clock(given)
  if given ~= '' then
    shortest_ttl_ms = 3600000
    return tonumber(given)
  end
  shortest_ttl_ms = 1
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- No key outlives a year, whatever the debt.
local LONGEST_TTL_MS = 366 * 86400000
local LONGEST_TTL = string.format('%.0f', LONGEST_TTL_MS)

-- Saves a value until a time by Redis' clock: cheaper there than a time from now.
local function save_for(key, value, now, ms)
  if ms >= LONGEST_TTL_MS then
    redis.call('SET', key, value, 'PX', LONGEST_TTL)
  elseif shortest_ttl_ms > 1 then
    redis.call('SET', key, value, 'PX', string.format('%d', math.max(shortest_ttl_ms, math.ceil(ms))))
  else
    redis.call('SET', key, value, 'PXAT', string.format('%.0f', math.ceil(now + ms)))
  end
end

-- Rounds up to whole ms, as PX takes them.
local function px(ms)
  if ms >= LONGEST_TTL_MS then
    return LONGEST_TTL
  end
  return string.format('%d', math.max(shortest_ttl_ms, math.ceil(ms)))
end
