-- Leaky bucket, as a meter (Turner 1986; with one place, the virtual scheduling of ATM's generic
-- cell rate algorithm): even spacing, no burst. What is used flows out at `rate`, in units per ms,
-- and the next call waits until all has: a call that costs n keeps the next away for n intervals.
-- `capacity` is the most that one call may cost.
Algorithms[ALGORITHM.LEAKY_BUCKET] = {
  roll = Algorithms.leak,
  wait = function(limit, used, debt, _, _, ahead)
    local before = math.min(used, limit.capacity + limit.slack) + debt + ahead
    if before <= limit.slack then return 0 end
    return Algorithms.wait_up(before / limit.rate)
  end,
  always_refundable = true,
  leaks = true,
  ttl = Algorithms.time_to_leak,
  slack = Algorithms.slack_of_rate,
  no_burst = true,
}
