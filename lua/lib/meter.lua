-- One packed value per rule and scope value: the time it was brought to, then each
-- limit in use as id, flags and doubles. A limit is found by its id, so adding,
-- removing or changing one keeps the usage of the others. A value holds only what
-- is not empty: used always, debt and claimed where their flag is set.
local HAS_DEBT, HAS_CLAIMED = 1, 2
-- Claims are promises to calls on their way, renewed or returned by whoever tends the
-- passes; a meter that only holds claims is forgotten after this time.
local CLAIM_TTL_MS = 60000
-- No key outlives a year, whatever the debt.
local LONGEST_TTL_MS = 366 * 86400000
-- A clock set back by less than this must not open a window twice: until it has
-- caught up nothing comes back. Set back further, it is taken as it is.
local CLOCK_STEP_MS = 60000
local UNIT_CONCURRENCY = 3
local BLOCK = 4

local LONGEST_TTL = string.format('%.0f', LONGEST_TTL_MS)

-- Rounds up to whole ms, as PX takes them.
local function px(ms)
  if ms >= LONGEST_TTL_MS then
    return LONGEST_TTL
  end
  return string.format('%d', math.max(SHORTEST_TTL_MS, math.ceil(ms)))
end

-- What every meter of a rule shares: where to find a limit by its id, its algorithm, and
-- how a meter is packed that has no debt and no claims, as nearly all have: one format
-- for all its limits, one call to read or write it.
local function prepare_rule(rule)
  local places, buffer = {}, { '<d', 0 }
  for n, limit in ipairs(rule[3]) do
    places[limit[LIMIT_ID]] = n
    limit.algorithm = algorithms[limit[LIMIT_ALGORITHM]]
    limit.leased = limit[LIMIT_UNIT] == UNIT_CONCURRENCY
    buffer[3 * n], buffer[3 * n + 1], buffer[3 * n + 2] = limit[LIMIT_ID], 0, 0
  end
  local limits = #rule[3]
  buffer[1] = '<d' .. string.rep('I4Bd', limits)
  rule.places, rule.buffer, rule.plain_size = places, buffer, 8 + 13 * limits
end

-- Fills in the states of a meter's limits as they were kept; returns when that was.
local function unpack_meter(meter, value)
  local rule, size = meter.rule, #value
  if size == rule.plain_size then
    local kept, plain = { struct.unpack(rule.buffer[1], value) }, true
    for n, limit in ipairs(rule[3]) do
      plain = plain and kept[3 * n - 1] == limit[LIMIT_ID] and kept[3 * n] == 0
      meter[n] = { used = kept[3 * n + 1], debt = 0, claimed = 0 }
    end
    if plain then
      return kept[1]
    end
  end
  for n = 1, #rule[3] do
    meter[n] = nil
  end
  local at, position = struct.unpack('<d', value)
  local places = rule.places
  while position <= size do
    local id, flags, used
    id, flags, used, position = struct.unpack('<I4Bd', value, position)
    local debt, claimed = 0, 0
    if flags == HAS_CLAIMED then
      claimed, position = struct.unpack('<d', value, position)
    elseif flags == HAS_DEBT then
      debt, position = struct.unpack('<d', value, position)
    elseif flags > HAS_CLAIMED then
      debt, claimed, position = struct.unpack('<dd', value, position)
    end
    if places[id] then
      meter[places[id]] = { used = used, debt = debt, claimed = claimed }
    end
  end
  return at
end

local function load_leases(meter, state, limit, now)
  local after = string.format('(%.17g', now)
  state.used = redis.call('ZCOUNT', meter.lease_key, after, '+inf')
  if state.used >= limit[LIMIT_CAPACITY] then
    local first = redis.call('ZRANGE', meter.lease_key, after, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    state.lease_end = tonumber(first[2])
  end
end

-- meter: { rule, key, line_key, lease_key?, at, [n] = state of the rule's nth limit }
local function load_meter(meter, value, now)
  local at = now
  if value then
    at = unpack_meter(meter, value)
    if at > now + CLOCK_STEP_MS then
      at = now
    end
  end
  local brought_to = math.max(at, now)
  meter.at = brought_to
  for n, limit in ipairs(meter.rule[3]) do
    local state = meter[n]
    if not state then
      state = { used = 0, debt = 0, claimed = 0 }
      meter[n] = state
    elseif at < brought_to then
      limit.algorithm.roll(state, limit, at, brought_to)
    end
    if limit.leased then
      load_leases(meter, state, limit, now)
    end
  end
end

local function pack_state(limit, counted, state)
  local debt, claimed = state.debt, state.claimed
  if debt == 0 and claimed == 0 then
    return struct.pack('<I4Bd', limit[LIMIT_ID], 0, counted)
  elseif debt == 0 then
    return struct.pack('<I4Bdd', limit[LIMIT_ID], HAS_CLAIMED, counted, claimed)
  elseif claimed == 0 then
    return struct.pack('<I4Bdd', limit[LIMIT_ID], HAS_DEBT, counted, debt)
  end
  return struct.pack('<I4Bddd', limit[LIMIT_ID], HAS_DEBT + HAS_CLAIMED, counted, debt, claimed)
end

local function save_meter(meter, now)
  local rule = meter.rule
  local limits, buffer = rule[3], rule.buffer
  local plain, holds, ttl = true, false, 0
  for n = 1, #limits do
    local limit, state = limits[n], meter[n]
    local counted = limit.leased and 0 or state.used
    buffer[3 * n + 2] = counted
    if counted > 0 or state.debt > 0 then
      holds = true
      local ends = limit.algorithm.ttl(state, limit, now)
      if ends > ttl then
        ttl = ends
      end
    end
    if state.claimed > 0 then
      holds, plain = true, false
      if ttl < CLAIM_TTL_MS then
        ttl = CLAIM_TTL_MS
      end
    elseif state.debt > 0 then
      plain = false
    end
  end
  if not holds then
    redis.call('DEL', meter.key)
    return
  end
  local packed
  if plain then
    buffer[2] = meter.at
    packed = struct.pack(unpack(buffer))
  else
    local parts = { struct.pack('<d', meter.at) }
    for n = 1, #limits do
      parts[n + 1] = pack_state(limits[n], buffer[3 * n + 2], meter[n])
    end
    packed = table.concat(parts)
  end
  redis.call('SET', meter.key, packed, 'PX', px(ttl))
end

-- Overrun found at settlement: recorded in full, what is above the limit as debt.
local function overrun(state, limit, amount)
  local capacity = limit[LIMIT_CAPACITY]
  state.used = state.used + amount
  if state.used > capacity then
    state.debt = state.debt + state.used - capacity
    state.used = capacity
  end
end

local function refund(state, limit, amount, at, now)
  if limit.algorithm.refundable(limit, at, now) then
    local of_debt = math.min(state.debt, amount)
    state.debt = state.debt - of_debt
    state.used = math.max(0, state.used - (amount - of_debt))
  end
end
