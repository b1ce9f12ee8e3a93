-- Leaky bucket, as a meter (Turner 1986; with one place, the virtual scheduling of ATM's
-- generic cell rate algorithm): even spacing, no burst. a = units per ms. What is used
-- flows out at that rate, and the next call waits until all has: a call that costs n
-- keeps the next away for n intervals. `capacity` is the most that one call may cost.
algorithms[5] = {
  roll = leak,
  wait = function(limit, used, debt, _, _, ahead)
    local before = min(used, limit[LIMIT_CAPACITY] + limit.slack) + debt + ahead
    if before <= limit.slack then
      return 0
    end
    return wait_up(before / limit[LIMIT_A])
  end,
  always_refundable = true,
  ttl = time_to_leak,
  slack = slack_of_rate,
  no_burst = true,
}
