-- The reply of a decision, packed as doubles (src/gate/reply.ts reads it):
--   now, then per call: outcome, wait in ms, binding meter and limit (places in the
--   demand from 1, 0 = none), how many stand before it in line (-1 = not in line),
--   then for each limit of its demand what is used (debt included) and claimed.
local RUN, WAIT, REJECT, TOO_BIG, CLOSED, HOLD, REFUSED = 0, 1, 2, 3, 4, 5, 6
-- Below what unpack() can put on Lua's stack.
local PACKED_AT_ONCE = 128

local function new_reply(now)
  return { now }
end

local function add_reply(reply, batch, call, outcome, wait, binding, rank)
  local size = #reply
  reply[size + 1] = outcome
  reply[size + 2] = wait
  reply[size + 3] = binding and binding.at or 0
  reply[size + 4] = binding and binding.n or 0
  reply[size + 5] = rank or -1
  size = size + 5
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    for n = 1, #meter do
      reply[size + 1] = meter[n].used + meter[n].debt
      reply[size + 2] = meter[n].claimed
      size = size + 2
    end
  end
end

local function pack_reply(reply)
  local parts, full = {}, nil
  for from = 1, #reply, PACKED_AT_ONCE do
    local to = math.min(#reply, from + PACKED_AT_ONCE - 1)
    if to - from + 1 == PACKED_AT_ONCE then
      full = full or '<' .. string.rep('d', PACKED_AT_ONCE)
    end
    local format = to - from + 1 == PACKED_AT_ONCE and full or '<' .. string.rep('d', to - from + 1)
    parts[#parts + 1] = struct.pack(format, unpack(reply, from, to))
  end
  return table.concat(parts)
end
