-- Estimate: when a call in line starts, as a range { low, high } in ms from now.
--
-- Each limit by itself: the wait of the call behind what the calls before it will charge (lib/backlog.lua). How many
-- these are is known exactly of a call at the end, and in its own lines; of calls in other lines that wait for the
-- same meter it is taken from the share that has come before it where it stands, and a margin. What a part of them
-- costs is their share of the sum, more or less what samples of such costs miss it by.
-- Calls before it that have no room at another meter when it starts do not keep it waiting: how many may be so is
-- known from when they were told to have room there. They count for the latest start only (high).
-- Windows are filled by whole calls: equal ones leave the same rest in each, which is counted; mixed ones leave up to
-- the largest of them, which is in `high` only.
-- Several limits: the latest of them (low). Token buckets let through at any time what the slowest does, so that is
-- exact for them; where a window opens, its calls may have to wait for the other limits once more, one window's worth
-- of them (high).
local Estimate = {}
do
local max, min, floor, huge, sqrt = math.max, math.min, math.floor, math.huge, math.sqrt
-- Between two starts at a limit without a burst lies the way of a command, which nothing makes good.
local LATE_PER_START_MS = 3
-- A call that goes from the line of one rule to that of another may be looked at later than it has room.
local CROSSING_MS = 500
-- Sums of samples miss by more than so many standard deviations in one of 400 cases.
local DEVIATIONS = 3
-- Each round counts more calls before it: what is found is too early by less the more there are, never too late.
local ROUNDS = 6
local NOTHING = {}

-- What lines of the call say of its place: how many others stand there, how many of them before it; all together, and
-- by meter. The call itself may stand in one of them.
local function look_at_lines(batch, call, place)
  local record = call[CALL_PARSED]
  local stands_at, rank = nil, nil
  if record and record.state == 'W' then stands_at, rank = Line.own(batch, call) end
  local lines = { length = 0, before = 0, stands = rank and 1 or 0, lengths = {}, befores = {} }
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local length, before = Line.length(meter), 0
    if length > 0 then before = redis.call('ZCOUNT', Line.key(meter), '-inf', '(' .. Clock.text(place)) end
    meter.share_ahead = length > 0 and before / length or 0
    local others = length - (rank and meter == stands_at and 1 or 0)
    lines.length, lines.before = lines.length + others, lines.before + before
    lines.lengths[meter], lines.befores[meter] = others, before
  end
  return lines
end

-- The other calls that wait for a meter: how many, what they will charge it, and the largest.
local function others_at(meter, unit, cost, lines)
  local count, sum, largest = Backlog.waiting(meter, unit)
  return max(0, count - lines.stands), max(0, sum - lines.stands * cost), largest
end

-- How many of the other calls that wait for a meter come before the call: at the least, and at the most.
local function calls_before(meter, count, lines)
  if lines.before == lines.length then return count, count end
  local length, before = lines.lengths[meter], lines.befores[meter]
  local elsewhere, seen = max(0, count - length), lines.length - length
  local share = seen > 0 and (lines.before - before) / seen or length > 0 and before / length or 1
  local sampled, unseen = min(elsewhere, seen), max(0, elsewhere - seen)
  local miss = sampled > 0 and DEVIATIONS * sqrt(sampled * share * (1 - share) * (1 - sampled / seen)) or 0
  local least = min(count, before) + max(0, sampled * share - miss) + unseen * share / 2
  return least, min(count, before + min(sampled, sampled * share + miss) + unseen * (1 + share) / 2)
end

-- What so many of a number of calls cost, of which the sum and the largest are known, and by how much that may be missed.
local function cost_of(calls, count, sum, largest)
  if count == 0 then return 0, 0 end
  local mean, share = sum / count, min(1, calls / count)
  return sum * share, DEVIATIONS * sqrt(max(0, calls * (1 - share) * mean * (largest - mean)))
end

-- How much of each window goes to calls, least and most: the costs ahead are multiplied by 1 / that.
local function fill(limit, cost, count, sum, largest)
  local capacity = limit.capacity
  if not limit.algorithm.rounds or count == 0 then return 1, 1 end
  if largest <= cost and sum >= count * cost * (1 - 1e-9) then
    local even = floor((capacity + limit.slack) / cost) * cost / capacity
    return even, even
  end
  return max(capacity - max(largest, cost), capacity / 2) / capacity, 1
end

-- How long a limit keeps a call waiting behind a sum of costs.
local function wait_behind(one, before)
  local meter, limit, n, cost = one.meter, one.limit, one.n, one.cost
  local used, debt, room = meter.kept[meter.rule.offset + n], meter.debt[n], meter.claimed[n] + before
  if used + debt + cost + room <= limit.plain then return 0 end
  return limit.algorithm.wait(limit, used, debt, one.now, cost, room, meter.histories[n])
end

-- The earliest start at a limit of a call that starts in so many ms at the earliest.
local function start_at(batch, call, one, ms)
  local blocked = one.blocked > 0 and Backlog.blocked(batch, call, one.meter, ms) or 0
  if blocked == one.was_blocked then return one.was_low end
  local surely, missed = cost_of(max(0, one.fewest - blocked), one.count, one.sum, one.largest)
  one.was_blocked, one.was_low = blocked, wait_behind(one, max(0, surely - missed) / one.most)
  return one.was_low
end

-- How one limit keeps the call waiting: at the most (high), and what there is to know of the least.
local function of_limit(batch, meter, n, limit, call, now, lines)
  local cost = call[limit.cost_at]
  local count, sum, largest = others_at(meter, limit.unit, cost, lines)
  local fewest, calls = calls_before(meter, count, lines)
  local least, most = fill(limit, cost, count, sum, largest)
  local expected, miss = cost_of(calls, count, sum, largest)
  local one = {
    meter = meter, limit = limit, n = n, cost = cost, now = now, calls = calls, fewest = fewest, most = most, delay = 0,
    count = count, sum = sum, largest = largest, blocked = Backlog.blocked(batch, call, meter, 0), was_blocked = nil, was_low = nil,
    -- What one call of those that wait costs here.
    mean = max(cost, count > 0 and sum / count or cost),
  }
  -- The window of now may be left with such a rest, too.
  local high = wait_behind(one, min(sum, expected + miss) / least + (least < most and largest or 0))
  if least == most and fewest == calls and miss == 0 then one.was_blocked, one.was_low = 0, high end
  one.high = limit.algorithm.no_burst and high > 0 and high + max(1, calls) * LATE_PER_START_MS or high
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

-- The later a call starts at one limit, the more calls before it have room at another.
local function earliest(batch, call, each)
  local low = 0
  for _ = 1, ROUNDS do
    local next = low
    for _, one in ipairs(each) do next = max(next, start_at(batch, call, one, low)) end
    if next <= low then break end
    low = next
  end
  return low
end

-- How long a limit takes for one of the calls that wait.
local function interval_of(one)
  local limit = one.limit
  return limit.algorithm.rounds and limit.window * one.mean / limit.capacity or one.mean / limit.rate
end

-- What the other limits of the call may hold up is made good by most limits. Without a burst every start is later by
-- what the one before it was held up; room that a sliding window gives back is used later in every round.
local function note_delays(each)
  for _, one in ipairs(each) do
    local algorithm = one.limit.algorithm
    for _, other in ipairs((algorithm.no_burst or algorithm.slides) and each or NOTHING) do
      if other ~= one and algorithm.no_burst then
        one.delay = max(one.delay, one.calls * interval_of(other))
      elseif other.meter ~= one.meter and other.high > 0 and algorithm.slides then
        one.delay = floor(one.high / one.limit.window) * CROSSING_MS
      end
    end
  end
end

local function latest_of(each)
  local last = nil
  for _, one in ipairs(each) do
    if not last or one.high > last.high then last = one end
  end
  local high, crosses = last and last.high or 0, false
  for _, one in ipairs(each) do
    crosses = crosses or one.meter ~= last.meter and one.high > 0
    if one ~= last and one.high > 0 and not (is_bucket(one) and is_bucket(last)) then
      local spaced = one.limit.algorithm.no_burst or last.limit.algorithm.no_burst
      local more = spaced and one.high or min(one.high, of_window(one, last.limit.algorithm.rounds and last or one))
      local delay = max(one.delay, last.delay)
      high = high + (spaced and min(more, delay) or more + delay)
    end
  end
  return crosses and high + CROSSING_MS or high
end

-- Adds the limits of a meter to `each`. Returns whether it is not known when it has room: all its slots may be taken.
local function look_at_meter(batch, each, meter, call, now, lines)
  local rule, unknown = meter.rule, false
  for n = 1, rule.active do
    local limit = rule.limits[n]
    if limit.leased then
      unknown = unknown or meter.kept[rule.offset + n] + Backlog.waiting(meter, 1) >= limit.capacity
    elseif call[limit.cost_at] > 0 then
      each[#each + 1] = of_limit(batch, meter, n, limit, call, now, lines)
    end
  end
  return unknown
end

-- Keeps of each meter when the call has room there in call.waits, for the calls that come after it (lib/backlog.lua).
local function note_waits(call, each)
  for _, one in ipairs(each) do
    call.waits[one.meter] = max(call.waits[one.meter] or 0, one.high + one.delay)
  end
end

-- @param place of the call, which may stand there or come there
-- @return ms until it starts, at the least and at the most (math.huge: not known); what binds it, nil: it has room;
--   and ms until it has room at its place, as long as the calls before it stay where they are
function Estimate.at_place(batch, call, now, place)
  local lines = look_at_lines(batch, call, place)
  local verdict = Decide.weigh(batch, call, now, Decide.newcomer_view(batch))
  local wait, each, unknown = verdict and verdict.wait or 0, {}, false
  call.waits = {}
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if not Backlog.is_charged(meter) then
      unknown = unknown or meter.block or meter.rule.kind == KIND.PAUSE
    elseif Decide.strictness_of(call, meter.rule) <= STRICTNESS.THROTTLE then
      -- No call waits for a rule that refuses.
      if look_at_meter(batch, each, meter, call, now, lines) then call.waits[meter], unknown = huge, true end
    end
  end
  note_delays(each)
  note_waits(call, each)
  local least, most = earliest(batch, call, each), latest_of(each)
  for position = CALL_METERS, #call do
    batch.meters[call[position]].share_ahead = nil
  end
  -- Without a gate the lines above say all: the verdict takes it that calls before this one stay in their lines.
  local gated = verdict and (verdict.binding.n == 0 or verdict.binding.unknown)
  local low = gated and max(wait, least) or least
  return low, unknown and huge or max(low, most), verdict and verdict.binding, wait
end
end
