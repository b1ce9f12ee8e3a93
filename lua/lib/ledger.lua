-- Shared ledgers: the entries of the calls that started in one batch, in one value, each in
-- the place that its token names (from 0). It goes when its last entry is closed, or with
-- the time: then what is still open stays charged.
--   open entries, mask of the units charged, then per entry: open (1 or 0), time of the charge,
--   the cost in each unit
local LEDGER_TTL_MS = 86400000
local LEDGER_TTL = string.format('%.0f', LEDGER_TTL_MS)
local LEDGER_HEAD = 5

-- What is kept of a ledger, and what this batch changes of it. Read once per batch.
local function ledger_of(batch, key)
  local ledger = batch.ledgers[key]
  if not ledger then
    local value = redis.call('GET', key)
    local open, units = 0, batch.units
    if value then
      local mask
      open, mask = struct.unpack('<I4B', value)
      units = units_of_mask(mask)
    end
    ledger = {
      value = value, open = open, units = units, opened = {}, closed = {}, changed = {}, settled = {},
      format = '<Bd' .. string.rep('d', #units), size = 9 + 8 * #units,
    }
    batch.ledgers[key] = ledger
  end
  return ledger
end

-- The entry of a call, if there is one open under its token.
local function read_entry(ledger, token)
  local value, position = ledger.value, LEDGER_HEAD + 1 + ledger.size * token
  if not value or position > #value then
    return false
  end
  local values = { struct.unpack(ledger.format, value, position) }
  return values[1] == 1 and { state = 'S', at = values[2], costs = costs_by_unit(ledger.units, values, 3), token = token }
end

local function pack_entry(ledger, open, at, costs)
  local values = {}
  for i, unit in ipairs(ledger.units) do
    values[i] = costs[unit] or 0
  end
  return struct.pack(ledger.format, open, at, unpack(values))
end

local function new_ledger(ledger)
  local by_token, last = {}, 0
  for _, entry in ipairs(ledger.opened) do
    by_token[entry[1]] = entry
    last = max(last, entry[1])
  end
  local parts = { struct.pack('<I4B', #ledger.opened, mask_of_units(ledger.units)) }
  local none = string.rep('\0', ledger.size)
  for token = 0, last do
    local entry = by_token[token]
    parts[token + 2] = entry and pack_entry(ledger, 1, entry[2], entry[3]) or none
  end
  return table.concat(parts)
end

local function save_ledger(key, ledger)
  local opened, closed = ledger.opened, ledger.closed
  if #opened + #closed + #ledger.changed == 0 then
    return
  elseif not ledger.value then
    redis.call('SET', key, new_ledger(ledger), 'PX', LEDGER_TTL)
    return
  end
  local open = ledger.open + #opened - #closed
  if open <= 0 then
    redis.call('DEL', key)
    return
  end
  for _, entries in ipairs({ opened, ledger.changed }) do
    for _, entry in ipairs(entries) do
      redis.call('SETRANGE', key, LEDGER_HEAD + ledger.size * entry[1], pack_entry(ledger, 1, entry[2], entry[3]))
    end
  end
  for _, place in ipairs(closed) do
    redis.call('SETRANGE', key, LEDGER_HEAD + ledger.size * place, '\0')
  end
  redis.call('SETRANGE', key, 0, struct.pack('<I4', open))
end
