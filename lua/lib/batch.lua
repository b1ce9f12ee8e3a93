-- A batch of calls, as a script is given it. It names each meter
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
