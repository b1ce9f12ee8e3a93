-- Redis' own clock, in milliseconds with microseconds behind the point, so that
-- skew between machines changes nothing. A test or a simulation gives its own.
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
