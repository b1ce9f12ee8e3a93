-- One packed value per rule and scope value. Nearly all are plain: the time they were
-- brought to, the ids of the limits, and what each has used. One that holds debt, claims or
-- the history of an algorithm says them for each limit. A limit is found by its id, so
-- adding, removing or changing one keeps the usage of the others.
--   plain     PLAIN, at, id × n, used × n
--   extended  EXTENDED, at, { id, used, debt, claimed, size of history, history… } × n
-- Claims are promises to calls on their way, renewed or returned by whoever tends the
-- passes; a meter that only holds claims is forgotten after this time.
local CLAIM_TTL_MS = 60000
-- A clock set back by less than this must not open a window twice: until it has
-- caught up nothing comes back. Set back further, it is taken as it is.
local CLOCK_STEP_MS = 60000

local function unpack_extended(meter, kept, value)
  local rule, lists = meter.rule, {}
  meter.debt, meter.claimed = { unpack(rule.zeros) }, { unpack(rule.zeros) }
  local position = HEAD + 1
  while position <= #value do
    local id, used, debt, claimed, size, after = struct.unpack('<I4dddB', value, position)
    local n = rule.places[id]
    if n then
      kept[rule.offset + n], meter.debt[n], meter.claimed[n] = used, debt, claimed
      if size > 0 then
        lists[n] = { struct.unpack('<' .. string.rep('d', size), value, after) }
        lists[n][size + 1] = nil
      end
    end
    position = after + 8 * size
  end
  return kept, lists
end

-- A value that the rule's limits of today did not write, or that is not plain.
local function unpack_other(meter, value)
  local rule = meter.rule
  local kept, kind = { unpack(rule.empty) }, string.byte(value)
  kept[2] = struct.unpack('<d', value, 2)
  if kind == EXTENDED then
    return unpack_extended(meter, kept, value)
  end
  local stored = (#value - HEAD) / PLAIN_ENTRY
  for i = 1, stored do
    local n = rule.places[struct.unpack('<I4', value, HEAD + 1 + 4 * (i - 1))]
    if n then
      kept[rule.offset + n] = struct.unpack('<d', value, HEAD + 1 + 4 * stored + 8 * (i - 1))
    end
  end
  return kept
end

-- Returns what is kept, and the histories' lists by the number of their limit.
local function unpack_meter(meter, value)
  local rule = meter.rule
  if #value ~= rule.plain_size then
    return unpack_other(meter, value)
  end
  local kept, empty = { struct.unpack(rule.plain_format, value) }, rule.empty
  if kept[1] ~= PLAIN then
    return unpack_other(meter, value)
  end
  for n = 3, rule.offset do
    if kept[n] ~= empty[n] then
      return unpack_other(meter, value)
    end
  end
  return kept
end

local function roll_all(rule, kept, debts, histories, at, now)
  local offset, limits = rule.offset, rule[3]
  for n = 1, rule.count do
    local limit, used, debt = limits[n], kept[offset + n], debts[n]
    if debt > 0 then
      kept[offset + n], debts[n] = limit.roll(limit, used, debt, at, now, histories[n])
    elseif used > 0 then
      kept[offset + n] = limit.roll(limit, used, 0, at, now, histories[n])
    end
  end
end

-- The histories of a meter's limits, before time is brought to now.
local function open_histories(meter, lists, first)
  local histories = {}
  for n, limit in ipairs(meter.rule[3]) do
    if limit.algorithm.open then
      histories[n] = limit.algorithm.open(limit, lists and lists[n], limit.key_at and KEYS[first + limit.key_at], histories[1])
    end
  end
  return histories
end

-- Set back by more than a step: histories move along, so that they do not count for longer.
local function set_back(meter, at, now)
  for n, limit in ipairs(meter.rule[3]) do
    local place = meter.rule.offset + n
    if meter.histories[n] and meter.kept[place] > 0 then
      meter.kept[place] = limit.algorithm.roll(limit, meter.kept[place], 0, at, now, meter.histories[n])
    end
  end
end

local NO_HISTORIES = {}

-- Whether an agent has said something that is not over: nearly never.
function upstream.matters(meter)
  local rule = meter.rule
  return rule.blocks and meter.kept[rule.offset + 1] ~= 0
end

-- How many of a meter's limits a call meets, and how many of them it needs room in.
function upstream.limits_met(meter)
  local rule = meter.rule
  return rule.blocks and meter.kept[rule.offset + 1] == 0 and 0 or rule.count
end

function upstream.limits_asked(meter)
  local rule = meter.rule
  return rule.blocks and meter.kept[rule.offset + 1] == 0 and 0 or rule.active
end

-- The line at a meter; a batch may come without.
local function line_key_of(meter)
  return KEYS[meter.first + meter.rule.keyed + 1]
end

-- A canary that was woken and has not started claims its place, for a while.
function upstream.see_awaited(meter, now)
  local awaited = upstream.matters(meter) and meter.histories[1][upstream.AWAITED] > now and 1 or 0
  if meter.claimed[1] ~= awaited then
    meter.claimed = { unpack(meter.claimed) }
    meter.claimed[1] = awaited
  end
end

-- A meter as it stands now: kept[rule.offset + n] is what limit n has used, kept[2] the time
-- it was brought to. Besides, where they are met: line_length, queued, behind and share_ahead
-- (lines). Its keys are KEYS[first] and those after it. Eight fields: a table of more is
-- twice as large.
local function load_meter(rule, first, value, now)
  local meter = { rule = rule, first = first, debt = rule.zeros, claimed = rule.zeros, histories = NO_HISTORIES, kept = false, changed = false }
  local kept, lists
  if value then
    kept, lists = unpack_meter(meter, value)
  else
    kept = { unpack(rule.empty) }
    kept[2] = now
  end
  meter.kept = kept
  if rule.remembers and (value or not rule.blocks) then
    meter.histories = open_histories(meter, lists, first)
  end
  local at = kept[2]
  if at < now then
    roll_all(rule, kept, meter.debt, meter.histories, at, now)
    kept[2] = now
  elseif at > now + CLOCK_STEP_MS then
    set_back(meter, at, now)
    kept[2] = now
    -- Written even if nothing else is: else who is refused would find it ahead of its time again.
    meter.changed = true
  end
  if rule.blocks and value then
    upstream.see_awaited(meter, now)
  end
  if rule.leased then
    for n, limit in ipairs(rule[3]) do
      if limit.leased then
        kept[rule.offset + n] = limit.algorithm.look(limit, meter.histories[n], now)
      end
    end
  end
  return meter
end

local function pack_extended(meter)
  local rule, kept, offset = meter.rule, meter.kept, meter.rule.offset
  local parts = { struct.pack('<Bd', EXTENDED, kept[2]) }
  for n = 1, rule.count do
    local limit, history = rule[3][n], meter.histories[n]
    local list = history and limit.algorithm.kept and limit.algorithm.kept(history)
    local size = list and #list or 0
    parts[n + 1] = struct.pack('<I4dddB', limit[LIMIT_ID], kept[offset + n], meter.debt[n], meter.claimed[n], size)
    if size > 0 then
      parts[n + 1] = parts[n + 1] .. struct.pack('<' .. string.rep('d', size), unpack(list))
    end
  end
  return table.concat(parts)
end

-- The time of a meter: that of a clock set back by less than a step stands still. Until the
-- clock has caught up nothing comes back, and the meter must not go.
local function present_of(meter, now)
  return max(now, meter.kept[2])
end

-- One that holds no debt, no claims and no history, as nearly all: only its used are looked at.
local function save_plain(meter, now)
  local rule, kept = meter.rule, meter.kept
  local limits, offset, count, ttl = rule[3], rule.offset, rule.count, 0
  local present = present_of(meter, now)
  for n = 1, count do
    local used = kept[offset + n]
    if used > 0 then
      local ends = limits[n].ttl(limits[n], used, 0, present) + present - now
      if ends > ttl then
        ttl = ends
      end
    end
  end
  if ttl == 0 then
    redis.call('DEL', KEYS[meter.first])
    return
  end
  kept[1] = PLAIN
  save_for(KEYS[meter.first], struct.pack(rule.plain_format, unpack(kept, 1, 2 + 2 * count)), now, ttl)
end

local function save_meter(meter, now)
  local zeros = meter.rule.zeros
  if meter.debt == zeros and meter.claimed == zeros and not meter.rule.remembers then
    return save_plain(meter, now)
  end
  local rule, kept, offset = meter.rule, meter.kept, meter.rule.offset
  local limits, debts, claims, count = rule[3], meter.debt, meter.claimed, rule.count
  local plain, holds, ttl = true, false, 0
  local present = present_of(meter, now)
  for n = 1, count do
    local limit, debt, history = limits[n], debts[n], meter.histories[n]
    local algorithm = limit.algorithm
    if limit.leased then
      kept[offset + n] = 0
    end
    local used = kept[offset + n]
    if used > 0 or debt > 0 then
      local ends = algorithm.ttl(limit, used, debt, present, history) + present - now
      if algorithm.tidy then
        used = algorithm.tidy(limit, history, used, now, px(ends))
        kept[offset + n] = used
      end
      if used > 0 or debt > 0 then
        holds = true
        if ends > ttl then
          ttl = ends
        end
        if debt > 0 or algorithm.kept and algorithm.kept(history) then
          plain = false
        end
      end
    end
    if claims[n] > 0 and limit[LIMIT_ALGORITHM] ~= BLOCK then
      holds, plain = true, false
      if ttl < CLAIM_TTL_MS then
        ttl = CLAIM_TTL_MS
      end
    end
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
  save_for(KEYS[meter.first], packed, now, ttl)
end
