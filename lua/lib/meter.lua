-- One packed value per rule and scope value. Nearly all are plain: the time they were
-- brought to, the ids of the limits, and what each has used. One that holds debt or claims
-- says them for each limit. A limit is found by its id, so adding, removing or changing one
-- keeps the usage of the others.
--   plain     PLAIN, at, id × n, used × n
--   extended  EXTENDED, at, { id, used, debt, claimed } × n
local PLAIN, EXTENDED = 112, 120
local HEAD, PLAIN_ENTRY, EXTENDED_ENTRY = 9, 12, 28
-- Claims are promises to calls on their way, renewed or returned by whoever tends the
-- passes; a meter that only holds claims is forgotten after this time.
local CLAIM_TTL_MS = 60000
-- No key outlives a year, whatever the debt.
local LONGEST_TTL_MS = 366 * 86400000
local LONGEST_TTL = string.format('%.0f', LONGEST_TTL_MS)
-- A clock set back by less than this must not open a window twice: until it has
-- caught up nothing comes back. Set back further, it is taken as it is.
local CLOCK_STEP_MS = 60000
local UNIT_CONCURRENCY = 3
local BLOCK = 4

-- Rounds up to whole ms, as PX takes them.
local function px(ms)
  if ms >= LONGEST_TTL_MS then
    return LONGEST_TTL
  end
  return string.format('%d', max(SHORTEST_TTL_MS, ceil(ms)))
end

-- What all meters of a rule share.
--   places  where to find a limit by its id
--   offset  a plain value unpacks to { PLAIN, at, ids…, used…, end }: the used of limit n is at offset + n
--   empty   the same for a meter that is not there
--   zeros   debt and claims of a meter that has none; never written to
local function prepare_rule(rule)
  local limits = rule[3]
  local count = #limits
  local places, empty, zeros = {}, { PLAIN, 0 }, {}
  for n = 1, count do
    local limit = limits[n]
    places[limit[LIMIT_ID]] = n
    limit.algorithm = algorithms[limit[LIMIT_ALGORITHM]]
    limit.leased = limit[LIMIT_UNIT] == UNIT_CONCURRENCY
    empty[2 + n], empty[2 + count + n], zeros[n] = limit[LIMIT_ID], 0, 0
  end
  rule.count, rule.offset, rule.places, rule.empty, rule.zeros = count, 2 + count, places, empty, zeros
  rule.plain_size = HEAD + PLAIN_ENTRY * count
  rule.plain_format = '<Bd' .. string.rep('I4', count) .. string.rep('d', count)
end

-- A value that the rule's limits of today did not write, or that holds debt or claims.
local function unpack_other(meter, value)
  local rule = meter.rule
  local kept, kind = { unpack(rule.empty) }, string.byte(value)
  kept[2] = struct.unpack('<d', value, 2)
  if kind == PLAIN then
    local stored = (#value - HEAD) / PLAIN_ENTRY
    for i = 1, stored do
      local n = rule.places[struct.unpack('<I4', value, HEAD + 1 + 4 * (i - 1))]
      if n then
        kept[rule.offset + n] = struct.unpack('<d', value, HEAD + 1 + 4 * stored + 8 * (i - 1))
      end
    end
    return kept
  end
  meter.debt, meter.claimed = { unpack(rule.zeros) }, { unpack(rule.zeros) }
  for position = HEAD + 1, #value, EXTENDED_ENTRY do
    local id, used, debt, claimed = struct.unpack('<I4ddd', value, position)
    local n = rule.places[id]
    if n then
      kept[rule.offset + n], meter.debt[n], meter.claimed[n] = used, debt, claimed
    end
  end
  return kept
end

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

-- Which slots are taken, and when the first comes free at the latest, is seen in the set.
local function load_leases(meter, n, limit, now)
  local after = string.format('(%.17g', now)
  local used = redis.call('ZCOUNT', meter.lease_key, after, '+inf')
  meter.kept[meter.offset + n] = used
  if used >= limit[LIMIT_CAPACITY] then
    local first = redis.call('ZRANGE', meter.lease_key, after, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    meter.first_end = tonumber(first[2])
  end
end

local function roll_all(rule, kept, debts, at, now)
  local offset, limits = rule.offset, rule[3]
  for n = 1, rule.count do
    local limit, used = limits[n], kept[offset + n]
    if debts[n] > 0 then
      kept[offset + n], debts[n] = limit.algorithm.roll(limit, used, debts[n], at, now)
    elseif used > 0 then
      kept[offset + n] = limit.algorithm.roll(limit, used, 0, at, now)
    end
  end
end

-- A meter as it stands now: kept[offset + n] is what limit n has used, kept[2] the time
-- it was brought to. Besides, where they are met: lease_key and first_end (concurrency),
-- line_length, tokens_queued, behind and share_ahead (lines).
local function load_meter(rule, key, line_key, lease_key, value, now)
  local meter = { rule = rule, key = key, line_key = line_key, offset = rule.offset, debt = rule.zeros, claimed = rule.zeros, kept = false, changed = false }
  local kept
  if value then
    kept = unpack_meter(meter, value)
    local at = kept[2]
    if at < now then
      roll_all(rule, kept, meter.debt, at, now)
      kept[2] = now
    elseif at > now + CLOCK_STEP_MS then
      kept[2] = now
    end
  else
    kept = { unpack(rule.empty) }
    kept[2] = now
  end
  meter.kept = kept
  if lease_key then
    meter.lease_key = lease_key
    for n, limit in ipairs(rule[3]) do
      if limit.leased then
        load_leases(meter, n, limit, now)
      end
    end
  end
  return meter
end

local function save_meter(meter, now)
  local rule, kept, offset = meter.rule, meter.kept, meter.offset
  local limits, debts, claims, count = rule[3], meter.debt, meter.claimed, rule.count
  local plain, holds, ttl = true, false, 0
  for n = 1, count do
    local limit, debt = limits[n], debts[n]
    if limit.leased then
      kept[offset + n] = 0
    end
    local used = kept[offset + n]
    if used > 0 or debt > 0 then
      holds = true
      local ends = limit.algorithm.ttl(limit, used, debt, now)
      if ends > ttl then
        ttl = ends
      end
      if debt > 0 then
        plain = false
      end
    end
    if claims[n] > 0 then
      holds, plain = true, false
      if ttl < CLAIM_TTL_MS then
        ttl = CLAIM_TTL_MS
      end
    end
  end
  if not holds then
    redis.call('DEL', meter.key)
    return
  end
  local packed
  if plain then
    kept[1] = PLAIN
    packed = struct.pack(rule.plain_format, unpack(kept, 1, 2 + 2 * count))
  else
    local parts = { struct.pack('<Bd', EXTENDED, kept[2]) }
    for n = 1, count do
      parts[n + 1] = struct.pack('<I4ddd', limits[n][LIMIT_ID], kept[offset + n], debts[n], claims[n])
    end
    packed = table.concat(parts)
  end
  redis.call('SET', meter.key, packed, 'PX', px(ttl))
end

-- Copies what is shared with the rule before it is written to.
local function own_list(meter, name)
  if meter[name] == meter.rule.zeros then
    meter[name] = { unpack(meter.rule.zeros) }
  end
  return meter[name]
end

local function set_claimed(meter, n, amount)
  own_list(meter, 'claimed')[n] = max(0, amount)
  meter.changed = true
end

-- Overrun found at settlement: recorded in full, what is above the limit as debt.
local function overrun(meter, n, limit, amount)
  local used, capacity = meter.kept[meter.offset + n] + amount, limit[LIMIT_CAPACITY]
  if used > capacity then
    local debts = own_list(meter, 'debt')
    debts[n] = debts[n] + used - capacity
    used = capacity
  end
  meter.kept[meter.offset + n] = used
  meter.changed = true
end

-- Gives back what was charged at a time, if that still counts. Returns whether it did.
local function refund(meter, n, limit, amount, at, now)
  if not (limit.algorithm.always_refundable or limit.algorithm.refundable(limit, at, now)) then
    return false
  end
  local place, debt = meter.offset + n, meter.debt[n]
  if debt > 0 then
    local of_debt = min(debt, amount)
    own_list(meter, 'debt')[n] = debt - of_debt
    amount = amount - of_debt
  end
  local left = meter.kept[place] - amount
  meter.kept[place] = left > 0 and left or 0
  meter.changed = true
  return true
end
