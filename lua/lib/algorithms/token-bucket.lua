-- Token bucket (Turner, "New directions in communications", 1986): `capacity` is the burst, `rate`
-- what comes back, in units per ms. Kept is what is missing from a full bucket, so an absent meter
-- is a full one.
do
local max, min = math.max, math.min
local wait_up = Algorithms.wait_up

-- What has come back since pays the debt first. A bucket that was larger when it was taken from
-- misses no more than it can hold now.
function Algorithms.leak(limit, used, debt, from, now)
  local back = (now - from) * limit.rate
  if debt > 0 then
    local left = max(0, debt - back)
    back, debt = back - (debt - left), left
  end
  used = min(used, limit.capacity + limit.slack) - back
  return used > 0 and used or 0, debt
end

function Algorithms.time_to_leak(limit, used, debt)
  return (used + debt) / limit.rate
end

Algorithms[ALGORITHM.TOKEN_BUCKET] = {
  roll = Algorithms.leak,
  wait = function(limit, used, debt, _, cost, ahead)
    local capacity = limit.capacity
    local over = min(used, capacity + limit.slack) + debt + cost + ahead - capacity
    if over <= limit.slack then return 0 end
    return wait_up(over / limit.rate)
  end,
  always_refundable = true,
  leaks = true,
  ttl = Algorithms.time_to_leak,
  slack = Algorithms.slack_of_rate,
}
end
