-- The reply of a decision, packed as doubles (src/store/redis/decoder.ts reads it):
--   now, 1 if there are lines (0: none, 2: there are, and the batch came without: nothing was done)
--   per call: outcome; unless it is RUN, WATCHED or AGAIN also wait in ms (-1 = nobody knows, or never), binding meter and limit
--     (places in the demand from 1, 0 = none), how many stand before it (-1 = not in line; of a
--     full line how many stand in it), how strict the rule is that decided (0 = none did)
--   outcomes: RUN; WATCHED: the same, and the block of its agent, which has said something, has to
--     hear of its end; SLOWED: it runs from a slot that is `wait` away; WAIT; HOLD: come again when
--     the wait is over; REJECT: by its strategy; REFUSED: where nobody waits; TOO_BIG; CLOSED;
--     LATE: it would start after its deadline; EXPIRED: its deadline has passed; FULL: its line
--   per meter of the batch: for each limit what is used (debt included) and claimed, as
--     the batch left it; where these do not tell it also ms until nothing is used
local RUN, WAIT, REJECT, TOO_BIG, CLOSED, HOLD, REFUSED, AGAIN, SLOWED, LATE, EXPIRED, FULL = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
upstream.WATCHED = 12
-- Few enough for the stack, and for one format to serve most replies.
local PACKED_AT_ONCE = 128

local function new_reply(now, batch)
  return { now, batch and (batch.any_line and 1 or 0) or 2 }
end

local function add_reply(reply, call, outcome, wait, binding, rank, strictness)
  local size = #reply
  reply[size + 1] = outcome
  if outcome == RUN or outcome == upstream.WATCHED or outcome == AGAIN then
    return
  end
  reply[size + 2] = outcome ~= HOLD and outcome ~= SLOWED and binding and upstream.is_unknown(binding.meter, binding.limit) and -1 or wait
  reply[size + 3] = binding and binding.at or 0
  reply[size + 4] = binding and binding.n or 0
  reply[size + 5] = rank or -1
  reply[size + 6] = strictness or 0
end

local function pack_reply(reply, batch)
  local size = #reply
  for _, meter in ipairs(batch and batch.meters or {}) do
    local limits, kept, offset, debts, claims = meter.rule[3], meter.kept, meter.rule.offset, meter.debt, meter.claimed
    for n = 1, meter.rule.told do
      reply[size + 1] = kept[offset + n] + debts[n]
      reply[size + 2] = claims[n]
      size = size + 2
      local algorithm = limits[n].algorithm
      if algorithm.tells_reset then
        size = size + 1
        local used, debt = kept[offset + n], debts[n]
        reply[size] = used + debt > 0 and algorithm.ttl(limits[n], used, debt, reply[1], meter.histories[n]) or 0
      end
    end
  end
  local parts, full = {}, nil
  for from = 1, size, PACKED_AT_ONCE do
    local to = math.min(size, from + PACKED_AT_ONCE - 1)
    local format
    if to - from + 1 == PACKED_AT_ONCE then
      full = full or '<' .. string.rep('d', PACKED_AT_ONCE)
      format = full
    else
      format = '<' .. string.rep('d', to - from + 1)
    end
    parts[#parts + 1] = struct.pack(format, unpack(reply, from, to))
  end
  return table.concat(parts)
end

-- What a call that has started is answered.
function upstream.running(batch, call)
  return upstream.block_of(batch, call) and upstream.WATCHED or RUN
end
