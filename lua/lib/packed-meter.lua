-- PackedMeter: a meter as one value. Nearly all are plain: the time they were brought to, the ids of the
-- limits, and what each has used. One whose buckets keep lows (lib/lows.lua) has them behind that; one
-- that holds debt, claims or the history of an algorithm says all of it for each limit. A limit is found
-- by its id, so adding, removing or changing one keeps the usage of the others. Beside its id stands the
-- rate that a bucket was written with (both are its stamp, lib/rule.lua): lib/meter.lua says what for.
--   plain     PLAIN + open, at, stamp × n, used × n
--   listed    LISTED + open, at, stamp × n, used × n, lows of each limit…, the size of each × n, n
--   extended  EXTENDED, at, { id, used, debt, code of its rate, size of history, history… } × n; where any are open one
--             entry more, with the id OPEN and their number as its used; then the claims (lib/claims.lua)
--             as more such entries. The history of a bucket are its lows
-- `open` are the open calls that were charged at the time of the meter.
local PackedMeter = {
  -- The id of an entry that no limit has.
  OPEN = 0,
  -- kept[1] of a meter with as many open calls as the kind of a plain or listed one, a byte, can count.
  MOST_OPEN = Rule.LISTED - 1,
}
do
local concat, pack, read, byte = table.concat, struct.pack, struct.unpack, string.byte
local PLAIN, LISTED, EXTENDED, HEAD, PLAIN_ENTRY, OPEN = Rule.PLAIN, Rule.LISTED, Rule.EXTENDED, Rule.HEAD, Rule.PLAIN_ENTRY, PackedMeter.OPEN
local NO_LOWS = Lows.NONE

-- The format of so many doubles.
local formats = {}

local function doubles(size)
  local format = formats[size]
  if not format then
    format = '<' .. string.rep('d', size)
    formats[size] = format
  end
  return format
end

local function read_list(value, size, position)
  local list = { read(doubles(size), value, position) }
  list[size + 1] = nil
  return list
end

-- Calls fn(id, used, debt, flag, history or nil) for each entry of an extended value.
function PackedMeter.each_entry(value, fn)
  local position, last = HEAD + 1, #value
  while position <= last do
    local id, used, debt, flag, size, after = read('<I4dddB', value, position)
    fn(id, used, debt, flag, size > 0 and read_list(value, size, after) or nil)
    position = after + 8 * size
  end
end

function PackedMeter.entry(id, used, debt, flag, history)
  local size = history and #history or 0
  local packed = pack('<I4dddB', id, used, debt, flag, size)
  return size > 0 and packed .. pack(doubles(size), unpack(history, 1, size)) or packed
end

-- The entry of the open calls that were charged at the time of the meter; nil where there are none.
function PackedMeter.open_entry(meter)
  local open = meter.kept[1] - PLAIN
  return open > 0 and PackedMeter.entry(OPEN, open, 0, 0) or nil
end

function PackedMeter.head(at)
  return pack('<Bd', EXTENDED, at)
end

-- A bucket was written with another rate: from then on it may have been refilled by that one.
local function note_rate(meter, n, code, kept)
  local limit = meter.rule.limits[n]
  if code == limit.code then return end
  meter.codes = meter.codes or {}
  meter.codes[n] = code
  kept[2 + n] = limit.stamp - limit.code + code
end

local function unpack_extended(meter, value, kept, now)
  local rule, lists, lows = meter.rule, {}, NO_LOWS
  meter.debt = { unpack(rule.zeros) }
  PackedMeter.each_entry(value, function(id, used, debt, code, history)
    local n = rule.places[id]
    if n then
      kept[rule.offset + n], meter.debt[n] = used, debt
      note_rate(meter, n, code, kept)
      if history and Lows.kept_by(rule, n) then
        if lows == NO_LOWS then lows = {} end
        lows[n] = history
      else
        lists[n] = history
      end
    elseif id == OPEN then
      kept[1] = PLAIN + used
    elseif id == Claims.ENTRY then
      Claims.unpack_entry(meter, used, history, now)
    end
  end)
  meter.lows = lows
  return kept, lists
end

-- The lows of a listed value of so many limits; place_of says which limit of the meter the i-th is.
local function read_lows(meter, value, count, place_of)
  local rule, lows, position, sizes = meter.rule, {}, HEAD + 1 + PLAIN_ENTRY * count, #value - count - 1
  for i = 1, count do
    local size, n = byte(value, sizes + i), place_of(i)
    if size > 0 and n and Lows.kept_by(rule, n) then lows[n] = read_list(value, size, position) end
    position = position + 8 * size
  end
  meter.lows = lows
end

local function itself(i)
  return i
end

-- A value that the limits of today did not write, or that is extended.
local function unpack_other(meter, value, now)
  local rule = meter.rule
  local kept, kind = { unpack(rule.empty) }, byte(value)
  kept[2] = read('<d', value, 2)
  if kind == EXTENDED then return unpack_extended(meter, value, kept, now) end
  local listed = kind >= LISTED
  kept[1] = math.max(PLAIN, listed and kind - LISTED + PLAIN or kind)
  -- The process of another version may have written a value of another size: no stamp in it is that of a limit.
  local stored, places = listed and byte(value, -1) or math.floor((#value - HEAD) / PLAIN_ENTRY), {}
  if #value < HEAD + PLAIN_ENTRY * stored then return kept end
  for i = 1, stored do
    local id, code = Rule.read_stamp(read('<d', value, HEAD + 1 + 8 * (i - 1)))
    local n = rule.places[id]
    if n then
      kept[rule.offset + n] = read('<d', value, HEAD + 1 + 8 * stored + 8 * (i - 1))
      note_rate(meter, n, code, kept)
    end
    places[i] = n
  end
  if listed then
    read_lows(meter, value, stored, function(i)
      return places[i]
    end)
  end
  return kept
end

-- Unpacks a value into its meter. Returns what is kept, and the lists of histories by the number of
-- their limit.
function PackedMeter.unpack(meter, value, now)
  local rule = meter.rule
  local plain, empty = #value == rule.plain_size, rule.empty
  if not plain and (byte(value) < LISTED or #value < rule.plain_size or byte(value, -1) ~= rule.count) then return unpack_other(meter, value, now) end
  local kept = { read(rule.plain_format, value) }
  local kind = kept[1]
  if kind < PLAIN or plain == (kind >= LISTED) then return unpack_other(meter, value, now) end
  for n = 3, rule.offset do
    if kept[n] ~= empty[n] then return unpack_other(meter, value, now) end
  end
  if not plain then
    kept[1] = kind - LISTED + PLAIN
    read_lows(meter, value, rule.count, itself)
  end
  return kept
end

-- A meter without debt, claims and histories.
function PackedMeter.simple(meter)
  local rule, kept, lows = meter.rule, meter.kept, meter.lows
  local count, last = rule.count, 2 + 2 * rule.count
  if lows == NO_LOWS then return pack(rule.plain_format, unpack(kept, 1, last)) end
  local parts, sizes, any = { '' }, {}, false
  for n = 1, count do
    local list = lows[n]
    local size = list and #list or 0
    sizes[n] = size
    if size > 0 then
      any = true
      parts[#parts + 1] = pack(doubles(size), unpack(list, 1, size))
    end
  end
  local plain = kept[1]
  if any then kept[1] = plain - PLAIN + LISTED end
  parts[1] = pack(rule.plain_format, unpack(kept, 1, last))
  kept[1] = plain
  if not any then return parts[1] end
  sizes[count + 1] = count
  parts[#parts + 1] = string.char(unpack(sizes))
  return concat(parts)
end

function PackedMeter.extended(meter)
  local rule, kept, offset = meter.rule, meter.kept, meter.rule.offset
  local parts = { PackedMeter.head(kept[2]) }
  for n = 1, rule.count do
    local limit, history = rule.limits[n], meter.histories[n]
    local list = meter.lows[n] or history and limit.algorithm.kept and limit.algorithm.kept(history)
    local _, code = Rule.read_stamp(kept[2 + n])
    parts[n + 1] = PackedMeter.entry(limit.id, kept[offset + n], meter.debt[n], code, list)
  end
  parts[#parts + 1] = PackedMeter.open_entry(meter)
  Claims.pack_entries(meter, parts, PackedMeter.entry)
  return concat(parts)
end
end
