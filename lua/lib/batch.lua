-- Batch: the calls of one script call. It names each meter once, so that a meter is read and written
-- once however many calls share it.
--   rules    each as JSON, see lib/rule.lua
--   units    codes of the units that these rules count, without concurrency
--   meters   { rule, first key, … }: state at key, keys of single limits from +1, its line after those
--   calls    { number of meters, cost in each unit …, meter …, … }, one call after the other
--   heads    { record key, token, priority, strictness, id, ledger key, … }: what identifies the calls;
--            empty where no call has an identity: limiters by key send none
--   waitBounds { number of the call, its deadline or 0, its longest wait in ms or 0, … }: of calls that
--            do not wait for as long as it takes
--   arrivals { number of the call, when it came, … }: of calls whose worker died; they queue at their old place
--   locks    { number of the call, key of its job's lock in BullMQ, the lock of its worker, … }: of calls
--            that a worker has; where the lock is another one's, or has ended, call.lost says so
--   sender   { key, number }: of a batch of starts, who sends it (lua/start.lua)
--   ended, endedHeads   calls to settle first, in the same form
-- A key of 0 means that there is none. A call has a record of its own while it is on its way; its
-- ledger entry stands there too, or in a ledger that the calls of one batch share (one write for all),
-- in the place that its token names.
local Batch = {}
do
local HEAD_WIDTH = 6
-- The head of calls without an identity.
local ANONYMOUS = { 0, '', 0, 0, '', 0 }
local NONE = {}
local SENDER_TTL = string.format('%d', SENDER_TTL_MS)

-- What is known of a call: its ledger entry, or else its record.
local function load_call(batch, call, record)
  local key, ledger_key = call[CALL_RECORD], call[CALL_LEDGER]
  call[CALL_RECORD_KEY] = key > 0 and KEYS[key]
  call[CALL_OWN_RECORD] = record
  call[CALL_LEDGER_KEY] = ledger_key > 0 and KEYS[ledger_key]
  local entry = ledger_key > 0 and Ledger.read(Ledger.of(batch, KEYS[ledger_key]), call[CALL_TOKEN])
  call[CALL_PARSED] = entry or record and Record.parse(record)
  call[CALL_JSON] = ''
end

local function lay_out_calls(flat, heads, units)
  local calls, count, i, counted = {}, 0, 1, #units
  local head, h, width = heads, 0, HEAD_WIDTH
  if #heads == 0 then head, width = ANONYMOUS, 0 end
  while flat[i] do
    local last = i + counted + flat[i]
    local call = {
      head[h + 1], head[h + 2], head[h + 3], 0, 0, 0, 0, 0, 0, 0, 1, head[h + 4], head[h + 5], head[h + 6],
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

local function lay_out(given, now)
  local units, bounds = given.units, given.waitBounds or {}
  local batch = {
    meters = {}, units = units, calls = lay_out_calls(given.calls, given.heads, units), ended = lay_out_calls(given.ended, given.endedHeads, units),
    now = now, sender = given.sender, ledgers = {}, settled = {}, figures = {}, open = {}, any_line = redis.call('EXISTS', KEYS[FIXED.LINES]) == 1, seen = false,
  }
  for i = 1, #bounds, 3 do
    local call = batch.calls[bounds[i]]
    call.deadline, call.max_wait = bounds[i + 1], bounds[i + 2]
  end
  local arrivals = given.arrivals or NONE
  for i = 1, #arrivals, 2 do
    batch.calls[arrivals[i]].arrived = math.min(now, arrivals[i + 1])
  end
  return batch
end

-- The meters of the calls that are decided on; those that a batch only settles calls at keep their rates.
local function adopt_rates(batch)
  for _, call in ipairs(batch.calls) do
    for position = CALL_METERS, #call do
      local meter = batch.meters[call[position]]
      if meter.codes then Meter.adopt_rates(meter) end
    end
  end
end

-- @param settles whether the calls are not decided on: they have ended, or give up what they hold
function Batch.load(encoded, now, settles)
  local given = cjson.decode(encoded)
  local batch, rules, spec = lay_out(given, now), given.rules, given.meters
  for i, one in ipairs(rules) do
    rules[i] = Rule.of(one)
  end
  local keys, meters, changed_rates = {}, #spec / 2, false
  for i = 1, meters do
    keys[i] = KEYS[spec[2 * i]]
  end
  local both, locks = { batch.ended, batch.calls }, given.locks or NONE
  for _, calls in ipairs(both) do
    for _, call in ipairs(calls) do
      if call[CALL_RECORD] > 0 then keys[#keys + 1] = KEYS[call[CALL_RECORD]] end
    end
  end
  local records = #keys
  for i = 1, #locks, 3 do
    keys[#keys + 1] = KEYS[locks[i + 1]]
  end
  -- unpack() is bounded by Lua's stack; the client bounds a batch well below it.
  local values = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
  for i = 1, meters do
    local rule = rules[spec[2 * i - 1]]
    local load = rule.kind == KIND.UPSTREAM and Upstream.load or Meter.load
    local meter = load(rule, spec[2 * i], values[i], now)
    batch.meters[i] = meter
    changed_rates = changed_rates or meter.codes ~= nil
  end
  if changed_rates and not settles then adopt_rates(batch) end
  local at = meters
  for _, calls in ipairs(both) do
    for _, call in ipairs(calls) do
      if call[CALL_RECORD] > 0 then at = at + 1 end
      if call[CALL_RECORD] > 0 or call[CALL_LEDGER] > 0 then
        load_call(batch, call, call[CALL_RECORD] > 0 and values[at])
      end
    end
  end
  for i = 1, #locks, 3 do
    records = records + 1
    if values[records] ~= locks[i + 2] then batch.calls[locks[i]].lost = true end
  end
  return batch
end

-- Whether a batch of starts comes after a later one of its sender, or twice.
function Batch.is_late_copy(sender)
  if not sender then return false end
  local key, number = KEYS[sender[1]], sender[2]
  local last = tonumber(redis.call('SET', key, number, 'GET', 'PX', SENDER_TTL) or 0)
  if number > last then return false end
  redis.call('SET', key, last, 'PX', SENDER_TTL)
  return true
end

-- A call that came twice in one batch finds what became of the first: its record was read before that.
function Batch.read_again(batch, call)
  local key = call[CALL_RECORD_KEY]
  if not key then return end
  local seen = batch.seen or {}
  batch.seen = seen
  if seen[key] and not call[CALL_LEDGER_KEY] then
    local record = redis.call('GET', key)
    call[CALL_OWN_RECORD] = record
    call[CALL_PARSED] = record and Record.parse(record)
  end
  seen[key] = true
end

-- Whether a key was declared to this script call.
function Batch.declares(batch, key)
  if not batch.declared then
    batch.declared = {}
    for _, name in ipairs(KEYS) do
      batch.declared[name] = true
    end
  end
  return batch.declared[key] or false
end

-- Opens the ledger entry of a call that starts; the record of its way ends. A call without record
-- and ledger is charged for good.
function Batch.open_entry(batch, call, now)
  if call[CALL_LEDGER_KEY] then
    Ledger.open(Ledger.of(batch, call[CALL_LEDGER_KEY]), call[CALL_TOKEN], now, call, CALL_COST)
    if call[CALL_OWN_RECORD] then redis.call('DEL', call[CALL_RECORD_KEY]) end
  elseif call[CALL_RECORD_KEY] then
    local packed = Record.pack_started(batch.units, now, call, CALL_COST, call[CALL_TOKEN])
    redis.call('SET', call[CALL_RECORD_KEY], packed, 'PX', string.format('%.0f', LEDGER_TTL_MS))
  else
    return
  end
  Figures.count_open(batch, now, 1)
end

-- What a call has been charged by now, in its open entry.
function Batch.change_entry(batch, call, charged)
  local units, costs = {}, {}
  for unit = 1, COST_UNITS do
    costs[unit] = Record.charged_cost(charged, unit)
    if costs[unit] then units[#units + 1] = unit end
  end
  if call[CALL_LEDGER_KEY] then
    local ledger = Ledger.of(batch, call[CALL_LEDGER_KEY])
    local changed = ledger.changed
    changed[#changed + 1] = call[CALL_TOKEN]
    changed[#changed + 1] = Ledger.pack_entry(ledger, charged.at, costs, 0)
  else
    redis.call('SET', call[CALL_RECORD_KEY], Record.pack_started(units, charged.at, costs, 0, call[CALL_TOKEN]), 'KEEPTTL')
  end
end

-- Forgets a call: its record, or its ledger entry. Beside an entry in a shared ledger the record is that of
-- another attempt, and stays.
function Batch.drop_record(batch, call)
  local known = call[CALL_PARSED]
  if known and known.state == 'S' then
    Figures.count_open(batch, known.at, -1)
    if call[CALL_LEDGER_KEY] then
      local closed = Ledger.of(batch, call[CALL_LEDGER_KEY]).closed
      closed[#closed + 1] = call[CALL_TOKEN]
      return
    end
  end
  if call[CALL_OWN_RECORD] then redis.call('DEL', call[CALL_RECORD_KEY]) end
end

function Batch.save(batch)
  local now = batch.now
  for _, meter in ipairs(batch.meters) do
    if meter.changed then
      local save = meter.rule.kind == KIND.UPSTREAM and Upstream.save or Meter.save
      save(meter, now)
    end
  end
  for key, ledger in pairs(batch.ledgers) do
    Ledger.save(key, ledger)
  end
  Backlog.save(batch)
  Figures.save(batch, now)
end
end
