-- Lows: what a bucket may give back. A bucket gives room back by the clock. What a call was charged too
-- much can go back once only: as far as the clock has given it back already, a refund would make the
-- same room twice. It still lacks in the bucket as far as the bucket was never emptier than that since
-- the charge; so at most the least that was used at any time since the charge may go back.
--
-- A meter keeps that least for its open calls: lows[n] is a list for limit n
--   { since, least, open, since, least, open, … }   ascending in time and in what was least used
-- A call that was charged at `since` or later, and before the next entry, may give back at most `least`;
-- `open` counts these calls. For a call charged at the time of the meter, kept[2], all that is used may
-- go back, and for one charged before the first entry nothing. So a bucket without open calls, or whose
-- open calls were all charged at the time of the meter, needs no list; these calls are counted in the
-- kind of the meter, kept[1] - PLAIN. See docs/decisions/0031-what-a-bucket-may-give-back.md for why this
-- is enough. The twin is src/limits/lows.ts.
local Lows = {
  -- A meter without any list. Shared, and never written to.
  NONE = {},
}
do
local min = math.min
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

-- Time has passed since the meter was at `since`: it was brought to now, and less is used.
function Lows.pass(meter, since)
  local rule, kept, debts, lows = meter.rule, meter.kept, meter.debt, meter.lows
  local limits, offset, open = rule.limits, rule.offset, kept[1] - PLAIN
  for n = 1, rule.count do
    local list, level = lows[n], kept[offset + n] + debts[n]
    if level > 0 and limits[n].leaks and (list or open > 0) then
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

-- How much of an amount may go back of a call that was charged at a time; the caller takes it off what
-- is used.
function Lows.give_back(meter, n, amount, at)
  local present, list = meter.kept[2], meter.lows[n]
  local level = meter.kept[meter.rule.offset + n] + meter.debt[n]
  local place, most
  if at == present then
    place, most = list and #list + 1, level
  elseif at < present then
    place = list and place_of(list, at) or 0
    if place < 1 then return 0 end
    most = list[place + 1]
  else
    -- Charged by a clock that was set back since.
    return 0
  end
  local back = min(amount, most, level)
  if not list then return back end
  for later = place, #list, ENTRY do
    list[later + 1] = list[later + 1] - back
  end
  for earlier = place - ENTRY, 1, -ENTRY do
    list[earlier + 1] = min(list[earlier + 1], most - back)
  end
  while list[2] and list[2] <= 0 do
    remove(list, 1)
  end
  return back
end

-- A call has cost more than it was charged at a time. The agent saw that cost then, so it still lacks as
-- well: calls that were charged since may give back more.
function Lows.raise(meter, n, amount, at)
  if at >= meter.kept[2] then return end
  local list = meter.lows[n]
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

-- A call that was charged at a time has ended.
function Lows.close(meter, at)
  local kept, lows = meter.kept, meter.lows
  if at == kept[2] then
    if kept[1] > PLAIN then kept[1], meter.changed = kept[1] - 1, true end
    return
  end
  for n = 1, meter.rule.count do
    local list = lows[n]
    local place = list and place_of(list, at) or 0
    if place > 0 then
      list[place + 2] = list[place + 2] - 1
      if list[place + 2] <= 0 then remove(list, place) end
      meter.changed = true
    end
  end
end

-- No call that was charged by now may give back.
function Lows.forget(meter)
  meter.lows, meter.kept[1] = NONE, PLAIN
end

-- The list to keep of a limit, nil where there is none.
function Lows.kept(meter, n)
  local list = meter.lows[n]
  return list and #list > 0 and list or nil
end
end
