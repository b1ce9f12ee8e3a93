-- One record per call that is on its way, under the call's id:
--   waiting  W <place> <moves> <line>\n<call>             stands in a line
--   passed   P <place> <moves> <slot> <granted> <claim>\n<call>   woken; claim 1 while room is kept for it
--   started  S, packed: the units that were charged, the time of the charge, the cost in each, then the
--            token of its start
-- <call> is the call as JSON, opaque here: whoever drains resolves its rules again,
-- so rules changed meanwhile count. A started call's record is its ledger entry.
local RECORD_TTL_MS = 7 * 86400000
local RECORD_TTL = string.format('%.0f', RECORD_TTL_MS)

-- The costs of a charge as they stand in a ledger: only those in the units that were counted,
-- which a mask names (bit n - 1 for the unit n).
local function units_of_mask(mask)
  local units = {}
  for unit = 1, COST_UNITS do
    if mask % 2 == 1 then
      units[#units + 1] = unit
    end
    mask = floor(mask / 2)
  end
  return units
end

local function mask_of_units(units)
  local mask = 0
  for _, unit in ipairs(units) do
    mask = mask + 2 ^ (unit - 1)
  end
  return mask
end

-- The costs by unit, from what struct.unpack gave from a place on.
local function costs_by_unit(units, values, from)
  local costs = {}
  for i, unit in ipairs(units) do
    costs[unit] = values[from + i - 1]
  end
  return costs
end

local function parse_started(value)
  local units = units_of_mask(string.byte(value, 2))
  local values = { struct.unpack('<d' .. string.rep('d', #units), value, 3) }
  return { state = 'S', at = values[1], costs = costs_by_unit(units, values, 2), token = string.sub(value, values[#values]) }
end

local function pack_started(units, at, costs, token)
  local parts = { struct.pack('<c1Bd', 'S', mask_of_units(units), at) }
  for i, unit in ipairs(units) do
    parts[i + 1] = struct.pack('<d', costs[unit])
  end
  return table.concat(parts) .. token
end

local function parse_record(value)
  local kind = string.sub(value, 1, 1)
  if kind == 'S' then
    return parse_started(value)
  end
  local head, call = string.match(value, '^(.-)\n(.*)$')
  if kind == 'W' then
    local place, moves, line = string.match(head, '^W (%S+) (%S+) (.*)$')
    return { state = 'W', place = tonumber(place), moves = tonumber(moves), line = line, call = call }
  end
  local place, moves, slot, granted, claim = string.match(head, '^P (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {
    state = 'P', place = tonumber(place), moves = tonumber(moves), slot = tonumber(slot),
    granted = tonumber(granted), claims = claim == '1', call = call,
  }
end

local function save_waiting(key, place, moves, line, call, wait)
  redis.call('SET', key, string.format('W %.17g %d %s\n', place, moves, line) .. call, 'PX', px(RECORD_TTL_MS + math.max(0, wait)))
end

local function save_passed(key, record)
  local head = string.format('P %.17g %d %.17g %.17g %d\n', record.place, record.moves, record.slot, record.granted, record.claims and 1 or 0)
  redis.call('SET', key, head .. record.call, 'PX', RECORD_TTL)
end
