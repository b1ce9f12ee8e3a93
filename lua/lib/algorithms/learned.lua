-- Learned: a limit of a rule that guards an agent, mirrored beside its block, as a bucket of
-- which only the factor's part is there: a = units per ms, `capacity` is the burst, both times
-- the factor, and no faster than what the agent was seen to allow. Asked and charged only
-- while the factor is below 1; it begins empty, since nobody knows what the agent has left.
--   history  that of the block
-- A cost above the reduced burst passes once the bucket is full: it is never too big, and
-- what is used may be more than fits.

-- The factor that the observed rate of a unit comes to.
function upstream.most_of(limit, history)
  local observed = history[upstream.OBSERVED + limit[LIMIT_UNIT]] or 0
  return observed > 0 and observed / limit[LIMIT_A] or math.huge
end

function upstream.is_cut(history, now)
  return history[upstream.SINCE] > 0 and upstream.factor_at(history, now) < 1
end

function upstream.learned_capacity(limit, history, now)
  return limit[LIMIT_CAPACITY] * upstream.factor_at(history, now)
end

algorithms[9] = {
  open = function(_, _, _, block)
    return block
  end,
  roll = function(limit, used, _, from, now, history)
    if history.over then
      return 0, 0
    end
    if history[upstream.SINCE] == 0 or from >= now or now <= history[upstream.SINCE] then
      return used, 0
    end
    local most, left, back = upstream.most_of(limit, history), now - max(from, history[upstream.SINCE]), 0
    upstream.each_step(history, from, function(length, factor)
      local part = min(length, left)
      back, left = back + part * min(factor, most) * limit[LIMIT_A], left - part
      return left <= 0
    end)
    return max(0, used - back), 0
  end,
  wait = function(limit, used, _, now, cost, ahead, history)
    if not upstream.is_cut(history, now) then
      return 0
    end
    local capacity, most = upstream.learned_capacity(limit, history, now), upstream.most_of(limit, history)
    local over = used + min(cost, capacity) + ahead - capacity
    if over <= limit.slack then
      return 0
    end
    local waited = max(0, history[upstream.SINCE] - now)
    return upstream.each_step(history, now, function(length, factor)
      local rate = limit[LIMIT_A] * min(factor, most)
      if over <= length * rate then
        return wait_up(waited + over / rate)
      end
      over, waited = over - length * rate, waited + length
    end)
  end,
  overrun = function(_, history, used, amount, at, now)
    return upstream.is_cut(history, now) and at >= history[upstream.SINCE] and used + amount or used
  end,
  -- What was charged before the cut was not charged here.
  refund = function(_, history, used, amount, at, now)
    if not upstream.is_cut(history, now) or at < history[upstream.SINCE] then
      return used, false
    end
    return max(0, used - amount), true
  end,
  ttl = function()
    return 0
  end,
  slack = slack_of_rate,
  no_burst = true,
  never_too_big = true,
}
