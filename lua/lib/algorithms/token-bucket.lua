-- Token bucket (Turner 1986): `capacity` is the burst, a = tokens per ms.
-- Kept as what is missing from a full bucket, so an absent meter is a full one.

-- What has come back since: debt goes first. What a bucket was missing that was larger then
-- is no more than it can miss now.
local function leak(limit, used, debt, from, now)
  local back = (now - from) * limit[LIMIT_A]
  if debt > 0 then
    local left = max(0, debt - back)
    back, debt = back - (debt - left), left
  end
  used = min(used, limit[LIMIT_CAPACITY] + limit.slack) - back
  return used > 0 and used or 0, debt
end

local function time_to_leak(limit, used, debt)
  return (used + debt) / limit[LIMIT_A]
end

algorithms[1] = {
  roll = leak,
  wait = function(limit, used, debt, _, cost, ahead)
    local capacity = limit[LIMIT_CAPACITY]
    local over = min(used, capacity + limit.slack) + debt + cost + ahead - capacity
    if over <= limit.slack then
      return 0
    end
    return wait_up(over / limit[LIMIT_A])
  end,
  always_refundable = true,
  ttl = time_to_leak,
  slack = slack_of_rate,
}
