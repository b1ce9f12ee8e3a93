-- Meter: the live state of a rule's limits for one scope value, one packed value. Nearly all are
-- plain: the time they were brought to, the ids of the limits, and what each has used. A meter that
-- holds debt, claims or the history of an algorithm says them for each limit. A limit is found by its
-- id, so adding, removing or changing one keeps the usage of the others.
--   plain     PLAIN, at, id × n, used × n
--   extended  EXTENDED, at, { id, used, debt, 0, size of history, history… } × n, then the claims
--             (lib/claims.lua) as more such entries
--
-- As it is worked on: kept[rule.offset + n] is what limit n has used, kept[2] the time it was brought
-- to; debt, claimed and histories by the number of the limit; changed once it has to be saved. Its
-- keys are KEYS[first] and those after it. Besides, where they are needed: ends (lib/claims.lua),
-- line_length, queued, share_ahead (lib/line.lua), behind (lib/decide.lua), block (lib/upstream.lua).
local Meter = {}
do
local max = math.max
local PLAIN, EXTENDED, HEAD, PLAIN_ENTRY = Rule.PLAIN, Rule.EXTENDED, Rule.HEAD, Rule.PLAIN_ENTRY
local NO_HISTORIES = {}

function Meter.new(rule, first)
  -- Eight fields: a table of more is twice as large.
  return { rule = rule, first = first, debt = rule.zeros, claimed = rule.zeros, histories = NO_HISTORIES, kept = false, changed = false, block = false }
end

-- Calls fn(id, used, debt, claimed, history or nil) for each entry of an extended value.
function Meter.each_entry(value, fn)
  local position = HEAD + 1
  while position <= #value do
    local id, used, debt, claimed, size, after = struct.unpack('<I4dddB', value, position)
    local history = nil
    if size > 0 then
      history = { struct.unpack('<' .. string.rep('d', size), value, after) }
      history[size + 1] = nil
    end
    fn(id, used, debt, claimed, history)
    position = after + 8 * size
  end
end

function Meter.pack_entry(id, used, debt, claimed, history)
  local size = history and #history or 0
  local packed = struct.pack('<I4dddB', id, used, debt, claimed, size)
  return size > 0 and packed .. struct.pack('<' .. string.rep('d', size), unpack(history, 1, size)) or packed
end

function Meter.pack_head(at)
  return struct.pack('<Bd', EXTENDED, at)
end

-- A value that the limits of today did not write, or that is not plain.
local function unpack_other(meter, value, now)
  local rule = meter.rule
  local kept, kind = { unpack(rule.empty) }, string.byte(value)
  kept[2] = struct.unpack('<d', value, 2)
  if kind == EXTENDED then
    local lists = {}
    meter.debt = { unpack(rule.zeros) }
    Meter.each_entry(value, function(id, used, debt, _, history)
      local n = rule.places[id]
      if n then
        kept[rule.offset + n], meter.debt[n], lists[n] = used, debt, history
      elseif id == Claims.ENTRY then
        Claims.unpack_entry(meter, used, history, now)
      end
    end)
    return kept, lists
  end
  local stored = (#value - HEAD) / PLAIN_ENTRY
  for i = 1, stored do
    local n = rule.places[struct.unpack('<I4', value, HEAD + 1 + 4 * (i - 1))]
    if n then kept[rule.offset + n] = struct.unpack('<d', value, HEAD + 1 + 4 * stored + 8 * (i - 1)) end
  end
  return kept
end

-- Returns what is kept, and the lists of histories by the number of their limit.
local function unpack_meter(meter, value, now)
  local rule = meter.rule
  if #value ~= rule.plain_size then return unpack_other(meter, value, now) end
  local kept, empty = { struct.unpack(rule.plain_format, value) }, rule.empty
  if kept[1] ~= PLAIN then return unpack_other(meter, value, now) end
  for n = 3, rule.offset do
    if kept[n] ~= empty[n] then return unpack_other(meter, value, now) end
  end
  return kept
end

local function roll_all(rule, kept, debts, histories, at, now)
  local offset, limits = rule.offset, rule.limits
  for n = 1, rule.count do
    local limit, used, debt = limits[n], kept[offset + n], debts[n]
    if debt > 0 then
      kept[offset + n], debts[n] = limit.roll(limit, used, debt, at, now, histories[n])
    elseif used > 0 then
      kept[offset + n] = limit.roll(limit, used, 0, at, now, histories[n])
    end
  end
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
end

-- A meter brought to now. A clock that was set back by less than CLOCK_STEP_MS must not open a window
-- twice: until it has caught up nothing comes back. Set back further, it is taken as it is.
function Meter.load(rule, first, value, now)
  local meter = Meter.new(rule, first)
  local kept, lists
  if value then
    kept, lists = unpack_meter(meter, value, now)
  else
    kept = { unpack(rule.empty) }
    kept[2] = now
  end
  meter.kept = kept
  if rule.remembers then meter.histories = open_histories(meter, lists, first) end
  local at = kept[2]
  if at < now then
    roll_all(rule, kept, meter.debt, meter.histories, at, now)
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
end

local function pack_extended(meter)
  local rule, kept, offset = meter.rule, meter.kept, meter.rule.offset
  local parts = { Meter.pack_head(kept[2]) }
  for n = 1, rule.count do
    local limit, history = rule.limits[n], meter.histories[n]
    local list = history and limit.algorithm.kept and limit.algorithm.kept(history)
    parts[n + 1] = Meter.pack_entry(limit.id, kept[offset + n], meter.debt[n], 0, list)
  end
  Claims.pack_entries(meter, parts, Meter.pack_entry)
  return table.concat(parts)
end

-- A meter without debt, claims and history, as nearly all are: only its used are looked at.
local function save_plain(meter, now)
  local rule, kept = meter.rule, meter.kept
  local limits, offset, count, ttl = rule.limits, rule.offset, rule.count, 0
  local present = Meter.present(meter, now)
  for n = 1, count do
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
  kept[1] = PLAIN
  Clock.save(KEYS[meter.first], struct.pack(rule.plain_format, unpack(kept, 1, 2 + 2 * count)), now, ttl)
end

function Meter.save(meter, now)
  local zeros = meter.rule.zeros
  if meter.debt == zeros and not meter.ends and not meter.rule.remembers then return save_plain(meter, now) end
  local rule, kept, offset = meter.rule, meter.kept, meter.rule.offset
  local limits, debts, count = rule.limits, meter.debt, rule.count
  local plain, holds, ttl = true, false, 0
  local present = Meter.present(meter, now)
  for n = 1, count do
    local limit, debt, history = limits[n], debts[n], meter.histories[n]
    local algorithm = limit.algorithm
    if limit.leased then kept[offset + n] = 0 end
    local used = kept[offset + n]
    if used > 0 or debt > 0 then
      local ends = algorithm.ttl(limit, used, debt, present, history) + present - now
      if algorithm.tidy then
        used = algorithm.tidy(limit, history, used, Clock.px(ends))
        kept[offset + n] = used
      end
      if used > 0 or debt > 0 then
        holds = true
        if ends > ttl then ttl = ends end
        if debt > 0 or algorithm.kept and algorithm.kept(history) then plain = false end
      end
    end
  end
  local claimed = Claims.ttl(meter, now)
  if claimed > 0 then
    holds, plain = true, false
    ttl = max(ttl, claimed)
  end
  if not holds then
    redis.call('DEL', KEYS[meter.first])
    return
  end
  local packed
  if plain then
    kept[1] = PLAIN
    packed = struct.pack(rule.plain_format, unpack(kept, 1, 2 + 2 * count))
  else
    packed = pack_extended(meter)
  end
  Clock.save(KEYS[meter.first], packed, now, ttl)
end
end
