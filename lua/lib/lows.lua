-- Lows: what a bucket may give back. A bucket gives room back by the clock. What a call was charged too
-- much can go back once only: as far as the clock has given it back already, a refund would make the
-- same room twice. It still lacks in the bucket as far as the bucket was never emptier than that since
-- the charge; so at most the least that was used at any time since the charge may go back.
--
-- A meter keeps that least for its open calls: lows[n] is a list for limit n, nil or empty where it has none
--   { since, least, open, since, least, open, … }   ascending in time and in what was least used
-- A call that was charged at `since` or later, and before the next entry, may give back at most `least`;
-- `open` counts these calls. For a call charged at the time of the meter, kept[2], all that is used may
-- go back, and for one charged before the first entry nothing. So a bucket without open calls, or whose
-- open calls were all charged at the time of the meter, needs no list; these calls are counted in the
-- kind of the meter, kept[1] - PLAIN.
--
-- A limit whose costs are known when calls start (requests, points) gives back only where a call is
-- released. It has no list until a call gives back late, and then keeps one until it is empty. Of calls
-- charged before that, what must have come back by the clock is taken off instead.
--
-- docs/decisions/0031-what-a-bucket-may-give-back.md says why all of this is enough. The twin is
-- src/limits/lows.ts.
local Lows = {
  -- A meter without any list. Shared, and never written to.
  NONE = {},
}
do
local max, min = math.max, math.min
local PLAIN, NONE, ENTRY = Rule.PLAIN, Lows.NONE, 3

-- The place of the entry of calls that were charged at a time; below 1 where there is none.
local function place_of(list, at)
  local place = #list - 2
  while place > 0 and list[place] > at do
    place = place - ENTRY
  end
  return place
end

local function remove(list, place)
  for i = place, #list do
    list[i] = list[i + ENTRY]
  end
end

-- Merges the two entries whose leasts differ least, or drops the first one where its least is smaller
-- still: calls may give back less than they could.
local function keep_within_bound(list)
  if #list <= ENTRY * LOWS_AT_MOST then return end
  local found, smallest, before = 1, math.huge, 0
  for place = 1, #list, ENTRY do
    local least = list[place + 1]
    if least - before < smallest then found, smallest = place, least - before end
    before = least
  end
  if found > 1 then list[found - 1] = list[found - 1] + list[found + 2] end
  remove(list, found)
end

local function set_list(meter, n, list)
  if meter.lows == NONE then meter.lows = {} end
  meter.lows[n] = list
end

local function lower(list, since, open, level)
  local size = #list
  while size > 0 and list[size - 1] >= level do
    since, open = list[size - 2], open + list[size]
    list[size], list[size - 1], list[size - 2] = nil, nil, nil
    size = size - ENTRY
  end
  if open > 0 then
    list[size + 1], list[size + 2], list[size + 3] = since, level, open
    keep_within_bound(list)
  end
end

-- Whether a limit may have lows: a bucket that no override lifts. Calls that start meanwhile are not
-- charged there, and those of before cannot be told from them later.
function Lows.kept_by(rule, n)
  return rule.limits[n].leaks and n <= rule.active
end

-- Time has passed since the meter was at `since`: it was brought to now, and less is used.
function Lows.pass(meter, since)
  local rule, kept, debts, lows = meter.rule, meter.kept, meter.debt, meter.lows
  local limits, offset, open = rule.limits, rule.offset, kept[1] - PLAIN
  for n = 1, rule.count do
    local list, level = lows[n], kept[offset + n] + debts[n]
    if level > 0 and Lows.kept_by(rule, n) and (list and #list > 0 or open > 0 and limits[n].keeps_lows) then
      if not list then
        list = {}
        set_list(meter, n, list)
      end
      lower(list, since, open, level)
    elseif list then
      lows[n] = nil
    end
  end
  kept[1] = PLAIN
end

-- Takes an amount off the leasts of calls that were charged at the entry of a place or later; those of
-- before follow.
-- @param most the least of the calls at the place
local function take(list, amount, place, most)
  for later = place + 1, #list, ENTRY do
    list[later] = list[later] - amount
  end
  for earlier = place - ENTRY + 1, 1, -ENTRY do
    if list[earlier] <= most - amount then break end
    list[earlier] = most - amount
  end
  while list[2] and list[2] <= 0 do
    remove(list, 1)
  end
end

-- How much of an amount may go back of a call that was charged at a time; the caller takes it off what
-- is used.
function Lows.give_back(meter, n, amount, at)
  local rule, present, list = meter.rule, meter.kept[2], meter.lows[n]
  local limit, level = rule.limits[n], meter.kept[rule.offset + n] + meter.debt[n]
  -- Charged by a clock that was set back since.
  if at > present then return 0 end
  list = list and #list > 0 and list or nil
  local place = list and (at == present and #list + 1 or place_of(list, at)) or 0
  local back
  if at == present then
    back = min(amount, level)
    if list then take(list, back, place, level) end
  elseif place > 0 then
    local most = list[place + 1]
    back = min(amount, most, level)
    take(list, back, place, most)
  elseif limit.keeps_lows then
    back = 0
  else
    back = max(0, min(amount - (present - at) * limit.rate, level))
    if list then
      take(list, back, 1, level)
    elseif level > back then
      -- From now on it has a list; its first entry is closed by no call.
      set_list(meter, n, { present, level - back, 1 })
      meter.changed = true
    end
  end
  return back
end

-- A call has cost more than it was charged at a time. The agent saw that cost then, so it still lacks as
-- well: calls that were charged since may give back more.
function Lows.raise(meter, n, amount, at)
  local list = meter.lows[n]
  if at >= meter.kept[2] or not (list and #list > 0 or meter.rule.limits[n].keeps_lows) then return end
  if not list then
    list = {}
    set_list(meter, n, list)
  end
  local place = place_of(list, at)
  if place < 1 then
    place = 1
    table.insert(list, 1, 1)
    table.insert(list, 1, 0)
    table.insert(list, 1, at)
  elseif list[place] < at then
    -- The other calls of the entry may have been charged before this one.
    if list[place + 2] <= 1 then
      list[place] = at
    else
      list[place + 2] = list[place + 2] - 1
      place = place + ENTRY
      table.insert(list, place, 1)
      table.insert(list, place, list[place - 2])
      table.insert(list, place, at)
    end
  end
  for later = place, #list, ENTRY do
    list[later + 1] = list[later + 1] + amount
  end
  keep_within_bound(list)
end

local function close_at(list, place)
  local open = list[place + 2] - 1
  if open > 0 then list[place + 2] = open else remove(list, place) end
end

-- A call that was charged at a time before that of the meter has ended.
function Lows.close(meter, n, at)
  local list = meter.lows[n]
  local place = list and place_of(list, at) or 0
  if place < 1 then return end
  close_at(list, place)
  meter.changed = true
end

-- Both at once, as nearly all calls end: gives back of a limit that keeps lows, and closes. Returns how
-- much goes back.
-- @param level what is used
function Lows.finish(meter, list, amount, at, level)
  local place = place_of(list, at)
  if place < 1 then return 0 end
  meter.changed = true
  local most = list[place + 1]
  local back = min(amount, most, level)
  close_at(list, place)
  -- The entry may have gone: then those after it are in its place.
  if back > 0 then take(list, back, place, most) end
  return back
end

-- No call that was charged by now may give back.
function Lows.forget(meter)
  meter.lows, meter.kept[1] = NONE, PLAIN
end

function Lows.any(meter)
  for n = 1, meter.rule.count do
    local list = meter.lows[n]
    if list and #list > 0 then return true end
  end
  return false
end
end
