-- A demand is what one call asks of all its meters at once. A batch names each meter
-- once, so that it is read once and written once however many calls share it.
--   batch  { rules  = { '[priority, strictness, limits, how many of them hold, options]', … }, each as JSON; the last two may be
--                     left out: all; { longest wait in ms, most that may wait, longest hold in ms, longest delay in ms, 1 = it can degrade }
--            units  = codes of the units that these rules count, without concurrency
--            meters = { rule, first key, … },   state at key, keys of single limits from +1, its line after those
--            lines  = 1; 0: the lines were left out, as there were none. If there are any by now,
--                     nothing is done, and the batch is to come again with them
--            calls  = { meters, cost in each unit …, meter …, … },
--            heads  = { record key, token, priority, strictness, id, ledger key, … }: who the calls are;
--                     empty where all are nobody in particular
--            patience = { number of the call, when it gives up or 0, its longest wait in ms or 0, … }: of those that do not wait for ever
--            ended, endedHeads = calls to settle first, in the same form }
-- Meters and calls come as one flat list each, and are laid out here in tables of the
-- right size: tables that grow cost more than what is done with them.
-- What a call costs in a unit stands at CALL_COST + the unit's code: one slot of a
-- concurrency, nothing of a block, nothing of what no rule here counts.
-- A call has a record of its own while it is on its way; its ledger entry stands there too,
-- or in a ledger that the calls of one batch share (one write for all), under its token.
-- A key of 0 means it has none.
local CALL_RECORD, CALL_TOKEN, CALL_PRIORITY = 1, 2, 3
local CALL_STRICTNESS, CALL_ID, CALL_LEDGER, CALL_METERS = 12, 13, 14, 20
-- Room in the call itself for what is found out about it: its record's key and its record as
-- they stand in Redis, its ledger's key, its record (or entry) parsed, and the call as JSON.
-- False where there is none; a table that does not grow is not laid out anew.
local CALL_RECORD_KEY, CALL_OWN_RECORD, CALL_LEDGER_KEY, CALL_PARSED, CALL_JSON = 15, 16, 17, 18, 19
-- How strict strategies are; of those of an own code the caller asks that code.
local STRICTNESS_THROTTLE, STRICTNESS_GRACEFUL, STRICTNESS_RETRY_AFTER, STRICTNESS_HARD = 2, 3, 5, 6

-- What is known of a call: its ledger entry, or else its record.
local function load_call(batch, call, record)
  local key, ledger_key = call[CALL_RECORD], call[CALL_LEDGER]
  call[CALL_RECORD_KEY] = key > 0 and KEYS[key]
  call[CALL_OWN_RECORD] = record
  call[CALL_LEDGER_KEY] = ledger_key > 0 and KEYS[ledger_key]
  local entry = ledger_key > 0 and read_entry(ledger_of(batch, KEYS[ledger_key]), call[CALL_TOKEN])
  call[CALL_PARSED] = entry or record and parse_record(record)
  call[CALL_JSON] = ''
end

-- Of whom no head is said.
local NOBODY = { 0, '', 0, 0, '', 0 }

local function lay_out_calls(flat, heads, units)
  local calls, count, i, counted = {}, 0, 1, #units
  local head, h, width = heads, 0, 6
  if #heads == 0 then
    head, width = NOBODY, 0
  end
  while flat[i] do
    local last = i + counted + flat[i]
    local call = {
      head[h + 1], head[h + 2], head[h + 3], 0, 0, 0, 0, 0, 0, 1, 0, head[h + 4], head[h + 5], head[h + 6],
      false, false, false, false, '', unpack(flat, i + counted + 1, last),
    }
    for n = 1, counted do
      call[CALL_COST + units[n]] = flat[i + n]
    end
    count = count + 1
    calls[count] = call
    i, h = last + 1, h + width
  end
  return calls
end

local function load_batch(encoded, now)
  local given = cjson.decode(encoded)
  local rules, spec, units = given.rules, given.meters, given.units
  local batch = {
    meters = {}, units = units, calls = lay_out_calls(given.calls, given.heads, units), ended = lay_out_calls(given.ended, given.endedHeads, units),
    now = now, ledgers = {}, settled = {}, figures = {}, open = {}, any_line = redis.call('EXISTS', KEYS[1]) == 1, lines = given.lines == 1,
  }
  if batch.any_line and not batch.lines then
    return nil
  end
  for i, encoded in ipairs(rules) do
    rules[i] = rule_of(encoded)
  end
  local patience = given.patience or {}
  for i = 1, #patience, 3 do
    local call = batch.calls[patience[i]]
    call.deadline, call.max_wait = patience[i + 1], patience[i + 2]
  end
  local keys, meters = {}, #spec / 2
  for i = 1, meters do
    keys[i] = KEYS[spec[2 * i]]
  end
  local both = { batch.ended, batch.calls }
  for _, calls in ipairs(both) do
    for _, call in ipairs(calls) do
      if call[CALL_RECORD] > 0 then
        keys[#keys + 1] = KEYS[call[CALL_RECORD]]
      end
    end
  end
  -- unpack() is bounded by Lua's stack; the client bounds a batch well below it.
  local values = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
  for i = 1, meters do
    batch.meters[i] = load_meter(rules[spec[2 * i - 1]], spec[2 * i], values[i], now)
  end
  local at = meters
  for _, calls in ipairs(both) do
    for _, call in ipairs(calls) do
      if call[CALL_RECORD] > 0 then
        at = at + 1
      end
      if call[CALL_RECORD] > 0 or call[CALL_LEDGER] > 0 then
        load_call(batch, call, call[CALL_RECORD] > 0 and values[at])
      end
    end
  end
  return batch
end

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
