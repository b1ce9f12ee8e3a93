-- Meter: the live state of a rule's limits for one scope value, one packed value (lib/packed-meter.lua).
--
-- As it is worked on: kept[rule.offset + n] is what limit n has used, kept[2] the time it was brought
-- to, kept[1] - PLAIN how many open calls were charged at that time; debt, claimed (lib/claims.lua), histories
-- and lows (lib/lows.lua) by the number of the limit; changed once it has to be saved. Its keys are
-- KEYS[first] and those after it. Besides, where they are needed: ends (lib/claims.lua), line_length,
-- share_ahead (lib/line.lua), backlog (lib/backlog.lua), behind (lib/decide.lua), block (lib/upstream.lua),
-- codes (of the rates that buckets were written with, where others hold today).
local Meter = {}
do
local max = math.max
local PLAIN, MOST_OPEN = Rule.PLAIN, PackedMeter.MOST_OPEN
local NO_HISTORIES, NO_LOWS = {}, Lows.NONE

function Meter.new(rule, first)
  -- Eight fields: a table of more is twice as large.
  return { rule = rule, first = first, debt = rule.zeros, claimed = rule.zeros, histories = NO_HISTORIES, lows = NO_LOWS, kept = false, changed = false }
end

-- The key of the line at a meter.
function Meter.line_key(meter)
  return KEYS[meter.first + meter.rule.keyed + 1]
end

-- A bucket whose rate is another one now than when it was written was refilled by the old one until that
-- changed, and since by the new one. When it changed a meter does not know: all of the time counts by the
-- lower of the two.
-- @param codes of the rates that limits were written with, where these are others
local function limits_of(rule, codes)
  if not codes then return rule.limits end
  local limits = { unpack(rule.limits) }
  for n, code in pairs(codes) do
    limits[n] = Rule.slower(limits[n], code)
  end
  return limits
end

-- From now on the buckets of a meter are refilled by their rates of today. A call that has been decided on
-- under these says so; one that ends may have been charged under rules of before.
function Meter.adopt_rates(meter)
  for n in pairs(meter.codes) do
    meter.kept[2 + n] = meter.rule.limits[n].stamp
  end
  meter.codes, meter.changed = nil, true
end

-- Returns whether anything is used still.
local function roll_all(rule, limits, kept, debts, histories, at, now)
  local offset, any = rule.offset, false
  for n = 1, rule.count do
    local limit, used, debt = limits[n], kept[offset + n], debts[n]
    if debt > 0 then
      kept[offset + n], debts[n] = limit.roll(limit, used, debt, at, now, histories[n])
      any = true
    elseif used > 0 then
      local left = limit.roll(limit, used, 0, at, now, histories[n])
      kept[offset + n] = left
      any = any or left > 0
    end
  end
  return any
end

local function open_histories(meter, lists, first)
  local histories = {}
  for n, limit in ipairs(meter.rule.limits) do
    if limit.algorithm.open then
      histories[n] = limit.algorithm.open(limit, lists and lists[n], limit.key_at and KEYS[first + limit.key_at])
    end
  end
  return histories
end

-- The clock was set back by more than a step: histories move along, so that they do not count for longer.
local function set_back(meter, at, now)
  for n, limit in ipairs(meter.rule.limits) do
    local place = meter.rule.offset + n
    if meter.histories[n] and meter.kept[place] > 0 then
      meter.kept[place] = limit.algorithm.roll(limit, meter.kept[place], 0, at, now, meter.histories[n])
    end
  end
  -- Times of before cannot be told from those that come again.
  Lows.forget(meter)
  Claims.forget(meter)
end

-- A meter brought to now. A clock that was set back by less than CLOCK_STEP_MS must not open a window
-- twice: until it has caught up nothing comes back. Set back further, it is taken as it is.
function Meter.load(rule, first, value, now)
  local meter = Meter.new(rule, first)
  local kept, lists
  if value then
    kept, lists = PackedMeter.unpack(meter, value, now)
  else
    kept = { unpack(rule.empty) }
    kept[2] = now
  end
  meter.kept = kept
  if rule.remembers then meter.histories = open_histories(meter, lists, first) end
  local at = kept[2]
  if at < now then
    local any = roll_all(rule, limits_of(rule, meter.codes), kept, meter.debt, meter.histories, at, now)
    if kept[1] > PLAIN or meter.lows ~= NO_LOWS then
      if any then Lows.pass(meter, at) else Lows.forget(meter) end
    end
    kept[2] = now
  elseif at > now + CLOCK_STEP_MS then
    set_back(meter, at, now)
    kept[2] = now
    -- Saved even if nothing else changes, or a refused call would find it ahead of its time again.
    meter.changed = true
  end
  if rule.leased then
    for n, limit in ipairs(rule.limits) do
      if limit.leased then kept[rule.offset + n] = limit.algorithm.look(limit, meter.histories[n], now) end
    end
  end
  return meter
end

-- The time of a meter. After a clock was set back by less than a step it stands still.
function Meter.present(meter, now)
  return max(now, meter.kept[2])
end

-- Forgets what has been counted, debt included; claims stay.
function Meter.reset(meter)
  local rule = meter.rule
  for n, limit in ipairs(rule.limits) do
    meter.kept[rule.offset + n] = 0
    if meter.histories[n] then
      local key = meter.histories[n].key
      if limit.algorithm.keyed then redis.call('DEL', key) end
      meter.histories[n] = limit.algorithm.open(limit, nil, key)
    end
  end
  meter.debt, meter.changed = rule.zeros, true
  Lows.forget(meter)
end

-- A meter without debt, claims and histories, as nearly all are: only its used are looked at.
local function save_simple(meter, now)
  local rule, kept = meter.rule, meter.kept
  local limits, offset, ttl = rule.limits, rule.offset, 0
  local present = Meter.present(meter, now)
  for n = 1, rule.count do
    local used = kept[offset + n]
    if used > 0 then
      local ends = limits[n].ttl(limits[n], used, 0, present) + present - now
      if ends > ttl then ttl = ends end
    end
  end
  if ttl == 0 then
    redis.call('DEL', KEYS[meter.first])
    return
  end
  Clock.save(KEYS[meter.first], PackedMeter.simple(meter), now, ttl)
end

function Meter.save(meter, now)
  local rule, kept = meter.rule, meter.kept
  local zeros, simple, holds, ttl = rule.zeros, kept[1] <= MOST_OPEN, false, 0
  if simple and meter.debt == zeros and not meter.ends and not rule.remembers then return save_simple(meter, now) end
  local limits, debts, offset = rule.limits, meter.debt, rule.offset
  local present = Meter.present(meter, now)
  for n = 1, rule.count do
    local limit, debt, history = limits[n], debts[n], meter.histories[n]
    local algorithm = limit.algorithm
    if limit.leased then kept[offset + n] = 0 end
    local used = kept[offset + n]
    if used > 0 or debt > 0 then
      local ends = algorithm.ttl(limit, used, debt, present, history) + present - now
      if algorithm.tidy then
        used = algorithm.tidy(limit, history, used, ends)
        kept[offset + n] = used
      end
      if used > 0 or debt > 0 then
        holds = true
        if ends > ttl then ttl = ends end
        if debt > 0 or algorithm.kept and algorithm.kept(history) then simple = false end
      end
    end
  end
  local claimed = Claims.ttl(meter, now)
  if claimed > 0 then
    holds, simple = true, false
    ttl = max(ttl, claimed)
  end
  if not holds then
    redis.call('DEL', KEYS[meter.first])
    return
  end
  Clock.save(KEYS[meter.first], simple and PackedMeter.simple(meter) or PackedMeter.extended(meter), now, ttl)
end
end
