-- Record: what is known of one call that is on its way, under the call's id:
--   waiting  W <place> <moves> <deadline> <line>\n<call>\n<claims>   stands in a line; deadline 0 = for as long as it
--            takes; its claims at meters that refuse, nothing where it has none
--   passed   P <place> <moves> <deadline> <slot> <granted> <claim>\n<call>\n<claims>   woken; claim 1 and claims
--            (lib/pass.lua) as JSON where anything was claimed for it, else 0 and nothing
--   started  S, packed: a mask of the units that were charged, the time of the charge, the cost in
--            each of these units, then the token of its start
-- <call> is the call as JSON, opaque here but for the identity with which it begins: the dispatcher
-- resolves its rules again, so rules that changed meanwhile count. The record of a started call is its
-- ledger entry; of a call at the gate, which is charged under its id, the token is its identity.
local Record = {}
do
local floor, max = math.floor, math.max
local RECORD_TTL_MS = 7 * 86400000

-- The costs of a charge as a ledger keeps them: only those in the units that were counted, which a
-- mask names (bit n - 1 for the unit n).
function Record.units_of_mask(mask)
  local units = {}
  for unit = 1, COST_UNITS do
    if mask % 2 == 1 then units[#units + 1] = unit end
    mask = floor(mask / 2)
  end
  return units
end

function Record.mask_of_units(units)
  local mask = 0
  for _, unit in ipairs(units) do
    mask = mask + 2 ^ (unit - 1)
  end
  return mask
end

-- Where in an unpacked entry the cost in each unit stands.
function Record.offsets_of(units, from)
  local offsets = {}
  for i = 1, #units do
    offsets[units[i]] = from + i - 1
  end
  return offsets
end

-- What a started call was charged in a unit, nil where that was not counted. An entry is a
-- part of a list that it may share with others: the cost in a unit is list[base + offsets[unit]].
function Record.charged_cost(charged, unit)
  local offset = charged.offsets[unit]
  return offset and charged.list[charged.base + offset]
end

-- The costs in these units, which stand in a list after a place. One or two units, as most calls
-- have, need no list of their own.
function Record.costs_in(units, list, place)
  local count = #units
  if count == 1 then
    return list[place + units[1]] or 0
  elseif count == 2 then
    return list[place + units[1]] or 0, list[place + units[2]] or 0
  end
  local costs = {}
  for i = 1, count do
    costs[i] = list[place + units[i]] or 0
  end
  return unpack(costs)
end

-- The identity of a call as JSON, '' where it says none.
function Record.identity_in(json)
  return string.match(json, '^{"is":"([^"]*)"') or ''
end

-- Whether the record under a call's id is that of another call: which it is says `identity`, '' = any.
function Record.waits_for_another(record, identity)
  if identity == '' or record.state == 'S' then return false end
  local own = Record.identity_in(record.call)
  return own ~= '' and own ~= identity
end

-- Whether the open entry under a call's id is that of another call. Entries in shared ledgers have no ids.
function Record.is_of_another(call, now)
  local known = call[CALL_PARSED]
  return known and known.state == 'S' and not call[CALL_LEDGER_KEY] and known.token ~= call[CALL_TOKEN] and known.at + LEDGER_TTL_MS > now or false
end

local function parse_started(value)
  local units = Record.units_of_mask(string.byte(value, 2))
  local values = { struct.unpack('<d' .. string.rep('d', #units), value, 3) }
  return { state = 'S', at = values[1], token = string.sub(value, values[#values]), list = values, base = 0, offsets = Record.offsets_of(units, 2) }
end

function Record.pack_started(units, at, list, place, token)
  return struct.pack('<c1Bd' .. string.rep('d', #units), 'S', Record.mask_of_units(units), at, Record.costs_in(units, list, place)) .. token
end

function Record.parse(value)
  local kind = string.sub(value, 1, 1)
  if kind == 'S' then return parse_started(value) end
  local head, call, claims = string.match(value, '^(.-)\n([^\n]*)\n?(.*)$')
  if kind == 'W' then
    local place, moves, deadline, line = string.match(head, '^W (%S+) (%S+) (%S+) (.*)$')
    return {
      state = 'W', place = tonumber(place), moves = tonumber(moves), deadline = tonumber(deadline), line = line,
      claims = claims ~= '' and cjson.decode(claims) or nil, call = call,
    }
  end
  local place, moves, deadline, slot, granted, claim = string.match(head, '^P (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {
    state = 'P', place = tonumber(place), moves = tonumber(moves), deadline = tonumber(deadline), slot = tonumber(slot),
    granted = tonumber(granted), claims = claim == '1' and claims ~= '' and cjson.decode(claims) or nil, call = call,
  }
end

local function numbers_of(list)
  local numbers = {}
  for at = 1, #list do
    numbers[at] = string.format('%.17g', list[at])
  end
  return table.concat(numbers, ',')
end

local function encode_claims(claims)
  local parts = { string.format('\n[%.17g', claims[1]) }
  for i = 2, #claims do
    local key, amounts, awaited, lasts = unpack(claims[i], 1, 4)
    local last = lasts and string.format(',[%s]', numbers_of(lasts)) or ''
    parts[i] = string.format(',[%s,[%s],%.17g%s]', cjson.encode(key), numbers_of(amounts), awaited, last)
  end
  return table.concat(parts) .. ']'
end

function Record.save_waiting(key, place, moves, deadline, line, call, wait, claims)
  redis.call('SET', key, string.format('W %.17g %d %.17g %s\n', place, moves, deadline, line) .. call .. (claims and encode_claims(claims) or ''), 'PX', Clock.px(RECORD_TTL_MS + max(0, wait)))
end

function Record.save_passed(key, record)
  local claims = record.claims
  local head = string.format('P %.17g %d %.17g %.17g %.17g %d\n', record.place, record.moves, record.deadline, record.slot, record.granted, claims and 1 or 0)
  redis.call('SET', key, head .. record.call .. (claims and encode_claims(claims) or ''), 'PX', Clock.px(RECORD_TTL_MS))
end
end
