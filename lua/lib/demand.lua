-- A demand is what one call asks of all its meters at once: whether they have room, and what
-- becomes of them when it is promised room, starts, or goes.
-- How strict strategies are; of those of an own code the caller asks that code.
local STRICTNESS_THROTTLE, STRICTNESS_GRACEFUL, STRICTNESS_RETRY_AFTER, STRICTNESS_HARD = 2, 3, 5, 6

-- Whose charge it is, where charges are remembered one by one.
local function charged_as(call, limit)
  if limit.leased then
    return call[CALL_ID]
  elseif limit.algorithm.keyed then
    return call[CALL_TOKEN] .. '|' .. (call[CALL_LEDGER_KEY] or call[CALL_ID])
  end
end

-- Opens the ledger entry of a call that starts; what said that it was on its way goes.
-- A call without record and ledger is charged for good.
local function open_entry(batch, call, now)
  if call[CALL_LEDGER_KEY] then
    local ledger = ledger_of(batch, call[CALL_LEDGER_KEY])
    open_shared(ledger, call[CALL_TOKEN], now, call, CALL_COST)
    if call[CALL_OWN_RECORD] then
      redis.call('DEL', call[CALL_RECORD_KEY])
    end
  elseif call[CALL_RECORD_KEY] then
    redis.call('SET', call[CALL_RECORD_KEY], pack_started(batch.units, now, call, CALL_COST, call[CALL_TOKEN]), 'PX', LEDGER_TTL)
  else
    return
  end
  count_open(batch, now, 1)
end

-- What a call has been charged by now, in its open entry.
local function change_entry(batch, call, charged)
  local units, costs = {}, {}
  for unit = 1, COST_UNITS do
    costs[unit] = charged_cost(charged, unit)
    if costs[unit] then
      units[#units + 1] = unit
    end
  end
  if call[CALL_LEDGER_KEY] then
    local ledger = ledger_of(batch, call[CALL_LEDGER_KEY])
    local changed = ledger.changed
    changed[#changed + 1] = call[CALL_TOKEN]
    changed[#changed + 1] = pack_entry(ledger, charged.at, costs, 0)
  else
    redis.call('SET', call[CALL_RECORD_KEY], pack_started(units, charged.at, costs, 0, call[CALL_TOKEN]), 'KEEPTTL')
  end
end

-- Forgets a call: its place in line or pass, and its ledger entry.
local function drop_record(batch, call)
  local known = call[CALL_PARSED]
  if known and known.state == 'S' then
    count_open(batch, known.at, -1)
    if call[CALL_LEDGER_KEY] then
      local closed = ledger_of(batch, call[CALL_LEDGER_KEY]).closed
      closed[#closed + 1] = call[CALL_TOKEN]
    end
  end
  if call[CALL_OWN_RECORD] then
    redis.call('DEL', call[CALL_RECORD_KEY])
  end
end

local function save_changed(batch, now)
  for _, meter in ipairs(batch.meters) do
    if meter.changed then
      save_meter(meter, now)
    end
  end
  for key, ledger in pairs(batch.ledgers) do
    save_ledger(key, ledger)
  end
  save_figures(batch, now)
end

-- What a rule does with a call that has no room: what the call asks for, if the rule can. A
-- pause is waited for, but by those who want to be refused.
local function strictness_of(call, rule)
  local own = call[CALL_STRICTNESS]
  if own == STRICTNESS_GRACEFUL and not rule.degrades or own < STRICTNESS_RETRY_AFTER and rule.pauses then
    return rule[2]
  end
  return own > 0 and own or rule[2]
end

-- Weighs a demand: how long until all of it fits, which limit binds (the latest one),
-- and what the rule that decides says. `ahead(meter, n, limit)` is the room that others
-- have a right to first; without it, what they claim. A cost above the capacity never
-- fits: its wait is -1.
local function weigh(batch, call, now, ahead)
  local meters, wait, binding, deciding = batch.meters, 0, nil, nil
  for position = CALL_METERS, #call do
    local meter = meters[call[position]]
    local rule, kept, debts, claims = meter.rule, meter.kept, meter.debt, meter.claimed
    local limits, offset = rule[3], rule.offset
    -- Every call passes a block, and most are open.
    for n = 1, rule.blocks and kept[offset + 1] == 0 and 0 or rule.active do
      local limit = limits[n]
      local cost = call[limit.cost_at]
      local before = ahead and ahead(meter, n, limit) or claims[n]
      local used, debt = kept[offset + n], debts[n]
      -- Nothing is asked of an algorithm where there is plainly room.
      if used + debt + cost + before > limit.plain then
        local blocks = limit.algorithm.no_cost
        if cost > limit[LIMIT_CAPACITY] + limit.slack and not limit.takes_any then
          return -1, { meter = meter, at = position - CALL_METERS + 1, n = n, limit = limit }, nil
        end
        local one = (cost > 0 or blocks) and limit.algorithm.wait(limit, used, debt, now, cost, before, meter.histories[n]) or 0
        if one > 0 then
          local strictness = strictness_of(call, rule)
          local refusal = { meter = meter, at = position - CALL_METERS + 1, n = n, limit = limit, priority = rule[1], strictness = strictness }
          -- When a slot comes free nobody knows: any time that is known says more. But while there
          -- is a pause no other time counts.
          local paused = binding and binding.limit.algorithm.no_end
          if binding == nil or limit.algorithm.no_end
            or (not paused and ((binding.limit.leased and not limit.leased) or (one > wait and not limit.leased))) then
            wait, binding = one, refusal
          end
          if not deciding or rule[1] > deciding.priority
            or (rule[1] == deciding.priority and strictness > deciding.strictness) then
            deciding = refusal
          end
        end
      end
    end
  end
  return wait, binding, deciding
end

-- Whether nobody can know when there is room: for a slot, a pause, or the end of a canary.
function upstream.is_unknown(meter, limit)
  return limit.unknown or limit[LIMIT_ALGORITHM] == BLOCK and meter.histories[1] ~= nil and meter.histories[1][upstream.UNTIL] <= meter.kept[2]
end

-- Calls fn(meter, n, cost, limit) for each limit the call meets.
local function each_limit(batch, call, fn)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local limits = meter.rule[3]
    for n = 1, upstream.limits_met(meter) do
      fn(meter, n, call[limits[n].cost_at], limits[n])
    end
  end
end

local function claim(batch, call)
  each_limit(batch, call, function(meter, n, cost, limit)
    if limit[LIMIT_ALGORITHM] ~= BLOCK then
      set_claimed(meter, n, meter.claimed[n] + cost)
    elseif meter.histories[1][upstream.SINCE] == 0 then
      upstream.await_canary(meter, max(batch.now, meter.histories[1][upstream.UNTIL]) + upstream.CANARY_AWAITED_MS)
    end
  end)
end

local function unclaim(batch, call)
  each_limit(batch, call, function(meter, n, cost, limit)
    if limit[LIMIT_ALGORITHM] ~= BLOCK then
      set_claimed(meter, n, meter.claimed[n] - cost)
    elseif meter.histories[1][upstream.AWAITED] > 0 then
      upstream.await_canary(meter, 0)
    end
  end)
end

-- Room that calls of this batch have a right to before those after them.
local function add_behind(meter, n, cost)
  local behind = meter.behind
  if not behind then
    behind = { unpack(meter.rule.zeros) }
    meter.behind = behind
  end
  behind[n] = behind[n] + cost
end

-- Charges every limit and opens the ledger entry. Returns whether its end matters to a block.
local function start(batch, call, now)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule, kept = meter.rule, meter.kept
    local limits, offset = rule[3], rule.offset
    for n = 1, rule.blocks and 0 or rule.active do
      local limit = limits[n]
      local cost = call[limit.cost_at]
      if cost > 0 then
        if limit.counts then
          kept[offset + n] = kept[offset + n] + cost
          meter.changed = true
        else
          charge(meter, n, limit, cost, now, charged_as(call, limit))
        end
      end
    end
  end
  local block = upstream.block_of(batch, call)
  if block then
    upstream.start_learning(block, call, now)
  end
  open_entry(batch, call, now)
end
