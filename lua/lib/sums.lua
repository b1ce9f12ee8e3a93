-- Sums: many newcomers decided on together. Of each meter the client says what all calls of the batch cost there;
-- so a meter is loaded, asked, charged and saved once, however many calls share it.
--
-- Where the sum of a meter fits below the plain bound of each of its limits (lib/rule.lua), beside what is used,
-- owed and claimed there, every call of the batch has room, in any order: room only shrinks as calls are charged,
-- and the last of them finds all others charged. So the answer is that of Decide.weigh call by call, and so are the
-- meters (but for the last bits of a double, where a sum is rounded otherwise than one charge after the other).
-- Of a meter that one call meets alone the algorithm is asked as well, which knows the slack.
--
-- It is all or nothing: where one sum does not fit, nothing is charged, and the batch is decided on call by call.
--
-- The meters of a batch are a flat list of numbers:
--   { rule, calls, opens, sum in each of the rule's units (rule.units), … }, one after the other
-- calls: how many have a cost there; opens: how many of them leave a ledger entry.
local Sums = {}
do
local pack, read = struct.pack, struct.unpack
local PLAIN, NO_LOWS = Rule.PLAIN, Lows.NONE

-- What is kept of a meter that has nothing but what its limits have used, as nearly all are, brought to now; nil
-- where there is more to it. As PackedMeter.unpack and Meter.load do it, without a table for the meter.
local function load_plain(rule, value, now)
  if rule.remembers or rule.keeps_lows then return nil end
  local empty = rule.empty
  if not value then
    local kept = { unpack(empty) }
    kept[2] = now
    return kept
  end
  if #value ~= rule.plain_size then return nil end
  local kept = { read(rule.plain_format, value) }
  local offset, at = rule.offset, kept[2]
  if kept[1] ~= PLAIN or at > now then return nil end
  for n = 3, offset do
    if kept[n] ~= empty[n] then return nil end
  end
  if at == now then return kept end
  kept[2] = now
  local limits = rule.limits
  for n = 1, rule.count do
    local used = kept[offset + n]
    if used > 0 then
      local limit = limits[n]
      kept[offset + n] = limit.roll(limit, used, 0, at, now)
    end
  end
  return kept
end

-- Of one call the algorithm is asked, where there is not plainly room.
local function has_no_room(limit, calls, sum, used, debt, claimed, history, now)
  return calls > 1 or sum > limit.capacity + limit.slack or limit.algorithm.wait(limit, used, debt, now, sum, claimed, history) > 0
end

-- Charges a meter that is plain. Returns its value, and for how long it is kept, if it has changed; nil, true where
-- it is tight.
local function charge_plain(rule, kept, list, at, now, reply)
  local limits, offset, active, calls, size = rule.limits, rule.offset, rule.active, list[at + 1], #reply
  local changed, ttl = false, 0
  for n = 1, rule.count do
    local limit, used, ends = limits[n], kept[offset + n], 0
    local sum = n <= active and list[at + 2 + limit.sum_at] or 0
    if sum > 0 then
      if used + sum > limit.plain and has_no_room(limit, calls, sum, used, 0, 0, nil, now) then return nil, true end
      used, changed = used + sum, true
      kept[offset + n] = used
    end
    if used > 0 then
      ends = limit.ttl(limit, used, 0, now)
      if ends > ttl then ttl = ends end
    end
    reply[size + 1], reply[size + 2] = used, 0
    size = size + 2
    if limit.tells_reset then
      size = size + 1
      reply[size] = ends
    end
  end
  if changed then return pack(rule.plain_format, unpack(kept, 1, 2 + 2 * rule.count)), ttl end
end

-- The same of a meter that holds more: whether the sums fit, and their charge.
local function fits(meter, list, at, now)
  local rule, kept, debts, claims = meter.rule, meter.kept, meter.debt, meter.claimed
  local limits, offset, calls = rule.limits, rule.offset, list[at + 1]
  for n = 1, rule.active do
    local limit = limits[n]
    local sum = list[at + 2 + limit.sum_at]
    if sum > 0 then
      local used, debt, claimed = kept[offset + n], debts[n], claims[n]
      if used + debt + sum + claimed > limit.plain and has_no_room(limit, calls, sum, used, debt, claimed, meter.histories[n], now) then return false end
    end
  end
  return true
end

local function charge_meter(meter, list, at, now)
  local rule, kept = meter.rule, meter.kept
  local limits, offset, opens = rule.limits, rule.offset, list[at + 2]
  for n = 1, rule.active do
    local limit = limits[n]
    local sum = list[at + 2 + limit.sum_at]
    if sum > 0 then
      if limit.counts then
        kept[offset + n] = kept[offset + n] + sum
        meter.changed = true
      else
        Charge.charge(meter, n, limit, sum, now)
      end
    end
  end
  -- As Decide.counts says of each call.
  if opens > 0 and (rule.keeps_lows or meter.lows ~= NO_LOWS and Lows.any(meter)) then kept[1] = kept[1] + opens end
end

-- Charges the meters of a list, in memory.
-- @param first the key of the first meter; those of the others follow
-- @param values what these keys hold, from a place on
-- @param reply gets what Reply says of each meter
-- Returns what is to be saved, { key, value and time to live, or a meter and false, … }, and the numbers of meters
-- that are tight: if there are any, nothing may be saved.
function Sums.charge(list, rules, first, values, place, now, reply)
  local unsaved, tight, count, at, size, u = {}, {}, 0, 1, #list, 0
  while at <= size do
    local rule, value, ttl = rules[list[at]], nil, nil
    local kept = load_plain(rule, values[place + count], now)
    if kept then
      value, ttl = charge_plain(rule, kept, list, at, now, reply)
    else
      local meter = Meter.load(rule, first + count, values[place + count], now)
      if meter.codes then Meter.adopt_rates(meter) end
      ttl = not fits(meter, list, at, now)
      if not ttl then
        charge_meter(meter, list, at, now)
        if meter.changed then value = meter end
        Reply.add_meter(reply, meter)
      end
    end
    if ttl == true then
      tight[#tight + 1] = count + 1
    elseif value then
      unsaved[u + 1], unsaved[u + 2], unsaved[u + 3] = first + count, value, ttl
      u = u + 3
    end
    count = count + 1
    at = at + 3 + rule.units
  end
  return unsaved, tight
end

function Sums.save(unsaved, now)
  local save = Clock.save
  for i = 1, #unsaved, 3 do
    local value, ttl = unsaved[i + 1], unsaved[i + 2]
    if ttl then save(KEYS[unsaved[i]], value, now, ttl) else Meter.save(value, now) end
  end
end

-- The same of a batch whose meters are loaded, and named in the list in the place of their rules.
-- Returns the numbers of meters that are tight.
function Sums.tight(meters, list, now)
  local tight, at = {}, 1
  while at <= #list do
    local meter = meters[list[at]]
    if meter.codes then Meter.adopt_rates(meter) end
    if not fits(meter, list, at, now) then tight[#tight + 1] = list[at] end
    at = at + 3 + meter.rule.units
  end
  return tight
end

function Sums.charge_all(meters, list, now)
  local at = 1
  while at <= #list do
    local meter = meters[list[at]]
    charge_meter(meter, list, at, now)
    at = at + 3 + meter.rule.units
  end
end
end
