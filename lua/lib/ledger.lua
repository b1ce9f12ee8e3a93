-- Shared ledgers: the entries of the calls that started in one batch, in one value, each in
-- the place that its token names (from 0). It goes when its last entry is closed, or with
-- the time: then what is still open stays charged.
--   open entries, then per entry: open (1 or 0), time of the charge, requests, tokens
local LEDGER_TTL = '86400000'
local LEDGER_HEAD, LEDGER_ENTRY = 4, 25

-- What is kept of a ledger, and what this batch changes of it. Read once per batch.
local function ledger_of(batch, key)
  local ledger = batch.ledgers[key]
  if not ledger then
    local value = redis.call('GET', key)
    ledger = { value = value, open = value and struct.unpack('<I4', value) or 0, opened = {}, closed = {}, settled = {} }
    batch.ledgers[key] = ledger
  end
  return ledger
end

-- The entry of a call, if there is one open under its token.
local function read_entry(ledger, token)
  local value, position = ledger.value, LEDGER_HEAD + 1 + LEDGER_ENTRY * token
  if not value or position > #value then
    return false
  end
  local open, at, requests, tokens = struct.unpack('<Bddd', value, position)
  return open == 1 and { state = 'S', at = at, requests = requests, tokens = tokens, token = token }
end

local function open_shared(ledger, token, now, requests, tokens)
  local opened = ledger.opened
  opened[#opened + 1] = { token, now, requests, tokens }
end

local function close_shared(ledger, token)
  ledger.closed[#ledger.closed + 1] = token
end

local function new_ledger(opened)
  local last = 0
  for _, entry in ipairs(opened) do
    last = max(last, entry[1])
  end
  local values = {}
  for i = 1, 4 * (last + 1) do
    values[i] = 0
  end
  for _, entry in ipairs(opened) do
    local i = 4 * entry[1]
    values[i + 1], values[i + 2], values[i + 3], values[i + 4] = 1, entry[2], entry[3], entry[4]
  end
  return struct.pack('<I4' .. string.rep('Bddd', last + 1), #opened, unpack(values))
end

local function save_ledger(key, ledger)
  local opened, closed = ledger.opened, ledger.closed
  if #opened + #closed == 0 then
    return
  elseif not ledger.value then
    redis.call('SET', key, new_ledger(opened), 'PX', LEDGER_TTL)
    return
  end
  local open = ledger.open + #opened - #closed
  if open <= 0 then
    redis.call('DEL', key)
    return
  end
  for _, entry in ipairs(opened) do
    redis.call('SETRANGE', key, LEDGER_HEAD + LEDGER_ENTRY * entry[1], struct.pack('<Bddd', 1, entry[2], entry[3], entry[4]))
  end
  for _, place in ipairs(closed) do
    redis.call('SETRANGE', key, LEDGER_HEAD + LEDGER_ENTRY * place, struct.pack('<B', 0))
  end
  redis.call('SETRANGE', key, 0, struct.pack('<I4', open))
end
