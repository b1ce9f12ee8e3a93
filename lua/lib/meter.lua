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

local function unpack_meter(value)
  local states = {}
  if not value then
    return 0, states
  end
  local at, position = struct.unpack('<d', value)
  while position <= #value do
    local id, flags, used
    id, flags, used, position = struct.unpack('<I4Bd', value, position)
    local state = { used = used, debt = 0, claimed = 0 }
    if flags == HAS_CLAIMED then
      state.claimed, position = struct.unpack('<d', value, position)
    elseif flags == HAS_DEBT then
      state.debt, position = struct.unpack('<d', value, position)
    elseif flags > HAS_CLAIMED then
      state.debt, state.claimed, position = struct.unpack('<dd', value, position)
    end
    states[id] = state
  end
  return at, states
end

-- meter: { rule, key, line_key, lease_key?, at, [n] = state of the rule's nth limit }
local function load_meter(meter, value, now)
  local at, states = unpack_meter(value)
  if at > now + CLOCK_STEP_MS then
    at = now
  end
  meter.at = math.max(at, now)
  for n, limit in ipairs(meter.rule[3]) do
    local state = states[limit[LIMIT_ID]] or { used = 0, debt = 0, claimed = 0 }
    if limit[LIMIT_UNIT] == UNIT_CONCURRENCY then
      state.used = redis.call('ZCOUNT', meter.lease_key, string.format('(%.17g', now), '+inf')
      if state.used >= limit[LIMIT_CAPACITY] then
        local first = redis.call('ZRANGE', meter.lease_key, string.format('(%.17g', now), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
        state.lease_end = tonumber(first[2])
      end
    else
      algorithms[limit[LIMIT_ALGORITHM]].roll(state, limit, at, meter.at)
    end
    meter[n] = state
  end
end

local function save_meter(meter, now)
  local parts, ttl = { struct.pack('<d', meter.at) }, 0
  for n, limit in ipairs(meter.rule[3]) do
    local state = meter[n]
    local counted = limit[LIMIT_UNIT] ~= UNIT_CONCURRENCY and state.used or 0
    if counted > 0 or state.debt > 0 or state.claimed > 0 then
      local flags = (state.debt > 0 and HAS_DEBT or 0) + (state.claimed > 0 and HAS_CLAIMED or 0)
      local part = struct.pack('<I4Bd', limit[LIMIT_ID], flags, counted)
      if state.debt > 0 then
        part = part .. struct.pack('<d', state.debt)
      end
      if state.claimed > 0 then
        part = part .. struct.pack('<d', state.claimed)
        ttl = math.max(ttl, CLAIM_TTL_MS)
      end
      if counted > 0 or state.debt > 0 then
        ttl = math.max(ttl, algorithms[limit[LIMIT_ALGORITHM]].ttl(state, limit, now))
      end
      parts[#parts + 1] = part
    end
  end
  if #parts == 1 then
    redis.call('DEL', meter.key)
  else
    redis.call('SET', meter.key, table.concat(parts), 'PX', string.format('%.0f', math.min(LONGEST_TTL_MS, math.max(1, math.ceil(ttl)))))
  end
end

local function charge(state, limit, cost)
  state.used = state.used + cost
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
  if algorithms[limit[LIMIT_ALGORITHM]].refundable(limit, at, now) then
    local of_debt = math.min(state.debt, amount)
    state.debt = state.debt - of_debt
    state.used = math.max(0, state.used - (amount - of_debt))
  end
end
