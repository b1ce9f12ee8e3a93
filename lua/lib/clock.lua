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

-- Rounds up to whole ms, as PX takes them.
local function px(ms)
  if ms >= LONGEST_TTL_MS then
    return LONGEST_TTL
  end
  return string.format('%d', math.max(shortest_ttl_ms, math.ceil(ms)))
end

-- Times as text, of which many in a batch are the same: to print one costs as much as to read a key.
local last_time, last_text

local function time_text(at)
  if at ~= last_time then
    last_time, last_text = at, string.format('%.0f', at)
  end
  return last_text
end

-- Saves a value until a time by Redis' clock: cheaper there than a time from now.
local function save_for(key, value, now, ms)
  if shortest_ttl_ms == 1 and ms < LONGEST_TTL_MS then
    local at = now + ms
    redis.call('SET', key, value, 'PXAT', time_text(at - at % 1 + 1))
  else
    redis.call('SET', key, value, 'PX', px(ms))
  end
end
