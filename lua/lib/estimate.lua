-- Estimate: when a call in line starts, as a range { low, high } in ms from now.
--
-- Each limit by itself: the wait of the call behind what calls with earlier places will charge. Which calls those
-- are is known as far as they stand in lines that the call shares (low); calls that wait in other lines may come
-- before it (high: all that wait for this meter). Windows are filled by whole calls: equal ones leave the same
-- rest in each, which is counted; mixed ones leave up to the largest of them, which is in `high` only.
-- Several limits: the latest of them (low). Token buckets let through at any time what the slowest does,
-- so that is exact for them; where a window opens, its calls may have to wait for the other limits once more,
-- one window's worth of them (high).
local Estimate = {}
do
local max, min, floor, huge = math.max, math.min, math.floor, math.huge
-- Between two starts at a limit without a burst lies the way of a command, which nothing makes good.
local LATE_PER_START_MS = 3
-- A call that goes from the line of one rule to that of another may be looked at later than it has room.
local CROSSING_MS = 500

-- The part of a meter's line that stands before a place.
local function share_before(meter, place)
  local length = Line.length(meter)
  return length > 0 and redis.call('ZCOUNT', Line.key(meter), '-inf', '(' .. Clock.text(place)) / length or 0
end

-- What surely stands before the call, in each unit: the costs of the calls in lines that it shares.
local function standing_before(batch, call)
  local costs = {}
  for unit = 1, COST_UNITS do costs[unit] = 0 end
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if meter.share_ahead and Line.length(meter) > 0 then
      for unit = 1, COST_UNITS do costs[unit] = costs[unit] + meter.share_ahead * Line.queued_cost(meter, unit) end
    end
  end
  return costs
end

-- How much of each window goes to calls, least and most: the costs ahead are multiplied by 1 / that.
local function fill(limit, cost, waiting)
  local unit, capacity = limit.unit, limit.capacity
  local count, sum, largest = waiting[1], waiting[1 + unit], waiting[1 + COST_UNITS + unit]
  if not limit.algorithm.rounds or count == 0 then return 1, 1 end
  if largest <= cost and sum >= count * cost * (1 - 1e-9) then
    local even = floor((capacity + limit.slack) / cost) * cost / capacity
    return even, even
  end
  return max(capacity - max(largest, cost), capacity / 2) / capacity, 1
end

-- How long one limit keeps the call waiting.
local function of_limit(meter, n, limit, call, now, known, share)
  local used, debt, cost = meter.kept[meter.rule.offset + n], meter.debt[n], call[limit.cost_at]
  local waiting, unit = Waiting.of(meter), limit.unit
  local all = max(waiting[1 + unit] * share, known.in_line)
  local shared = max(known.in_line, min(all, known.costs[unit]))
  -- Where calls wait for this meter in lines of others, as many of its own line may yet go to such lines.
  local surely = all > 0 and shared * (shared / all) ^ 2 or 0
  local least, most = fill(limit, cost, waiting)
  -- The window of now may be left with such a rest, too.
  local rest = least < most and waiting[1 + COST_UNITS + unit] or 0
  local function wait(before)
    if used + debt + cost + before <= limit.plain then return 0 end
    return limit.algorithm.wait(limit, used, debt, now, cost, before, meter.histories[n])
  end
  local claimed = meter.claimed[n]
  local one = { meter = meter, limit = limit, low = wait(claimed + surely / most), high = wait(claimed + all / least + rest) }
  local calls = max(1, waiting[1] * share)
  -- What one call of those that wait costs here.
  one.mean = max(cost, waiting[1] > 0 and waiting[1 + unit] / waiting[1] or cost)
  if limit.algorithm.no_burst then one.high = one.high + (one.high > 0 and calls * LATE_PER_START_MS or 0) end
  return one
end

-- How long a window or a bucket may keep waiting the calls of one window of another limit.
local function of_window(one, window)
  local calls = window.limit.capacity / window.mean
  local limit = one.limit
  if limit.algorithm.rounds then return limit.window end
  return max(0, calls * one.mean - limit.capacity) / limit.rate
end

local function is_bucket(one)
  return not one.limit.algorithm.rounds and not one.limit.algorithm.no_burst
end

local function combine(each)
  local low, last = 0, nil
  for _, one in ipairs(each) do
    low = max(low, one.low)
    if not last or one.high > last.high then last = one end
  end
  local high, crosses = last and last.high or 0, false
  for _, one in ipairs(each) do
    crosses = crosses or one.meter ~= last.meter and one.high > 0
    if one ~= last and one.high > 0 and not (is_bucket(one) and is_bucket(last)) then
      local more = one.high
      if not one.limit.algorithm.no_burst and not last.limit.algorithm.no_burst then
        more = min(more, of_window(one, last.limit.algorithm.rounds and last or one))
      end
      high = high + more
    end
  end
  return low, crosses and high + CROSSING_MS or high
end

-- @param place of the call, which may stand there or come there
-- @return ms until it starts, at the least and at the most (math.huge: not known); what binds it, nil: it has room;
--   and ms until it has room at its place, as long as the calls before it stay where they are
function Estimate.at_place(batch, call, now, place)
  local share = 1
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    meter.share_ahead = share_before(meter, place)
    if Line.length(meter) > 0 then share = min(share, meter.share_ahead) end
  end
  local verdict = Decide.weigh(batch, call, now, Decide.newcomer_view(batch))
  local wait, costs = verdict and verdict.wait or 0, standing_before(batch, call)
  local each, unknown = {}, false
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule = meter.rule
    local gate = not Waiting.is_charged(meter)
    -- No call waits for a rule that refuses.
    local charged = not gate and Decide.strictness_of(call, rule) <= STRICTNESS.THROTTLE
    unknown = unknown or gate and (meter.block or rule.kind == KIND.PAUSE)
    for n = 1, charged and rule.active or 0 do
      local limit = rule.limits[n]
      if limit.leased then
        unknown = unknown or meter.kept[rule.offset + n] + Waiting.of(meter)[1] >= limit.capacity
      elseif call[limit.cost_at] > 0 then
        local in_line = Line.length(meter) > 0 and meter.share_ahead * Line.queued_cost(meter, limit.unit) or 0
        each[#each + 1] = of_limit(meter, n, limit, call, now, { in_line = in_line, costs = costs }, share)
      end
    end
  end
  for position = CALL_METERS, #call do
    batch.meters[call[position]].share_ahead = nil
  end
  local least, most = combine(each)
  -- Without a gate the lines above say all: the verdict takes it that calls before this one stay in their lines.
  local gated = verdict and (verdict.binding.n == 0 or verdict.binding.unknown)
  local low = gated and max(wait, least) or least
  return low, unknown and huge or max(low, most), verdict and verdict.binding, wait
end
end
