-- Ledger: the entries of the calls that started in one batch, in one value that they share, each in
-- the place that its token names (from 0). It goes when its last entry is closed, or after
-- LEDGER_TTL_MS: calls whose entries are still open then stay charged what they were.
--   open entries, mask of the units charged, then per entry: open (1 or 0), time of the charge,
--   the cost in each unit
local Ledger = {}
do
local min = math.min
local LEDGER_TTL = string.format('%.0f', LEDGER_TTL_MS)
local LEDGER_HEAD = 5

-- What is kept of a ledger, and what this batch changes of it. Read once per batch.
function Ledger.of(batch, key)
  local ledger = batch.ledgers[key]
  if not ledger then
    local value = redis.call('GET', key)
    local open, units = 0, batch.units
    if value then
      local mask
      open, mask = struct.unpack('<I4B', value)
      units = Record.units_of_mask(mask)
    end
    ledger = {
      value = value, open = open, units = units, fresh = {}, filled = 0, closed = {}, changed = {}, settled = {},
      format = '<Bd' .. string.rep('d', #units), size = 9 + 8 * #units, width = 2 + #units, offsets = Record.offsets_of(units, 3),
    }
    batch.ledgers[key] = ledger
  end
  return ledger
end

-- All entries, one after the other: they are mostly settled together. A part at a time: the
-- stack bounds what struct.unpack gives at once.
local UNPACKED_AT_ONCE = 100

local function unpack_ledger(ledger)
  local entries = (#ledger.value - LEDGER_HEAD) / ledger.size
  local list, format = nil, '<' .. string.rep(string.sub(ledger.format, 2), min(entries, UNPACKED_AT_ONCE))
  for from = 0, entries - 1, UNPACKED_AT_ONCE do
    local count = min(UNPACKED_AT_ONCE, entries - from)
    if count < UNPACKED_AT_ONCE and from > 0 then format = '<' .. string.rep(string.sub(ledger.format, 2), count) end
    local part = { struct.unpack(format, ledger.value, LEDGER_HEAD + 1 + ledger.size * from) }
    if not list then
      list = part
    else
      local size = ledger.width * from
      for i = 1, ledger.width * count do
        list[size + i] = part[i]
      end
    end
  end
  return list
end

-- The entry of a call, if there is one open under its token.
function Ledger.read(ledger, token)
  local value, position = ledger.value, LEDGER_HEAD + 1 + ledger.size * token
  if not value or position > #value then return false end
  local list, base = ledger.list, ledger.width * token
  if not list then
    list = unpack_ledger(ledger)
    ledger.list = list
  end
  return list[base + 1] == 1 and { state = 'S', at = list[base + 2], token = token, list = list, base = base, offsets = ledger.offsets }
end

-- An open entry; its costs stand in a list after a place, by their units.
function Ledger.pack_entry(ledger, at, list, place)
  return struct.pack(ledger.format, 1, at, Record.costs_in(ledger.units, list, place))
end

-- Opens an entry at a time; its costs stand in a list after a place, by their units. In a new
-- ledger tokens ascend, as their calls do in a batch; one that did not start leaves an empty place.
function Ledger.open(ledger, token, at, costs, place)
  ledger.open = ledger.open + 1
  if ledger.value then
    local changed = ledger.changed
    changed[#changed + 1] = token
    changed[#changed + 1] = Ledger.pack_entry(ledger, at, costs, place)
    return
  end
  local fresh, units, base = ledger.fresh, ledger.units, ledger.width * token
  for i = ledger.filled + 1, base do
    fresh[i] = 0
  end
  fresh[base + 1], fresh[base + 2] = 1, at
  for i = 1, #units do
    fresh[base + 2 + i] = costs[place + units[i]]
  end
  ledger.filled = base + ledger.width
end

-- All entries of a new ledger at once, as many as the stack bears.
local function new_ledger(ledger)
  local parts, entries = { struct.pack('<I4B', ledger.open, Record.mask_of_units(ledger.units)) }, ledger.filled / ledger.width
  for from = 0, entries - 1, UNPACKED_AT_ONCE do
    local count = min(UNPACKED_AT_ONCE, entries - from)
    local format = '<' .. string.rep(string.sub(ledger.format, 2), count)
    parts[#parts + 1] = struct.pack(format, unpack(ledger.fresh, ledger.width * from + 1, ledger.width * (from + count)))
  end
  return table.concat(parts)
end

-- Writes a new ledger all of whose entries are opened at one time.
-- @param open how many of them are open
-- @param entries { 1, cost in each unit …, 1, … }, one after the other; 0 for a place without an entry. Of one entry
--   there are as many as there are places
function Ledger.create(key, units, open, places, entries, now)
  local format, size = '<Bd' .. string.rep('d', #units), 1 + #units
  local parts, packed = { struct.pack('<I4B', open, Record.mask_of_units(units)) }, ''
  for from = 1, #entries, size do
    packed = struct.pack(format, entries[from], entries[from] * now, unpack(entries, from + 1, from + #units))
    parts[#parts + 1] = packed
  end
  parts[#parts + 1] = string.rep(packed, places - (#parts - 1))
  redis.call('SET', key, table.concat(parts), 'PX', LEDGER_TTL)
end

function Ledger.save(key, ledger)
  local closed, changed = ledger.closed, ledger.changed
  if ledger.filled + #closed + #changed == 0 then
    return
  elseif not ledger.value then
    redis.call('SET', key, new_ledger(ledger), 'PX', LEDGER_TTL)
    return
  end
  local open = ledger.open - #closed
  if open <= 0 then
    redis.call('DEL', key)
    return
  end
  for i = 1, #changed, 2 do
    redis.call('SETRANGE', key, LEDGER_HEAD + ledger.size * changed[i], changed[i + 1])
  end
  for _, place in ipairs(closed) do
    redis.call('SETRANGE', key, LEDGER_HEAD + ledger.size * place, '\0')
  end
  redis.call('SETRANGE', key, 0, struct.pack('<I4', open))
end
end
