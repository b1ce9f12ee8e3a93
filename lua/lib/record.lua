-- One record per call that is on its way, under the call's id:
--   waiting  W <place> <moves> <line>\n<call>             stands in a line
--   passed   P <place> <moves> <slot> <granted> <claim>\n<call>   woken; claim 1 while room is kept for it
--   started  S, packed: time of the charge, requests, tokens, then the token of its start
-- <call> is the call as JSON, opaque here: whoever drains resolves its rules again,
-- so rules changed meanwhile count. A started call's record is its ledger entry.
local RECORD_TTL_MS = 7 * 86400000
local RECORD_TTL = string.format('%.0f', RECORD_TTL_MS)

local function parse_record(value)
  local kind = string.sub(value, 1, 1)
  if kind == 'S' then
    local at, requests, tokens, rest = struct.unpack('<ddd', value, 2)
    return { state = 'S', at = at, requests = requests, tokens = tokens, token = string.sub(value, rest) }
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

local function pack_started(now, requests, tokens, token)
  return struct.pack('<c1ddd', 'S', now, requests, tokens) .. token
end
