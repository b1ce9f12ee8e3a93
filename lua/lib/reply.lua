-- Reply: the decisions on a batch, packed as doubles (src/store/redis/decoder.ts reads them).
--   now
--   per call: its outcome (OUTCOME in the protocol says what each means); unless that is RUN, WATCHED,
--     AGAIN, LOST, TAKEN or JOINED also the wait in ms (-1 = not known, or never), the meter and the limit that bind it
--     (places in the request from 1; limit 0 = the gate of a pause or an upstream block; meter 0 = none),
--     how many calls stand before it (-1 = it is in no line; LINE_FULL: how many stand in the line), and
--     how strict the rule is that decided (0 = none did), and the longest that it may wait in ms
--     (-1 = not known)
--   per meter of the batch, but pauses and upstream blocks: for each limit what is used (debt included)
--     and claimed, as the batch left it; where these do not tell it also ms until nothing is used
local Reply = {}
do
local min = math.min
-- Outcomes of which nothing else is said.
local BARE = {
  [OUTCOME.RUN] = true, [OUTCOME.WATCHED] = true, [OUTCOME.AGAIN] = true, [OUTCOME.LOST] = true, [OUTCOME.TAKEN] = true, [OUTCOME.JOINED] = true,
}
local HOLD, SLOWED = OUTCOME.HOLD, OUTCOME.SLOWED
-- Few enough for the stack, and for one format to serve most replies.
local PACKED_AT_ONCE = 128
local FULL_FORMAT = '<' .. string.rep('d', PACKED_AT_ONCE)

function Reply.new(now)
  return { now }
end

function Reply.add(reply, outcome, wait, binding, rank, strictness, most)
  local at = #reply + 1
  reply[at] = outcome
  if BARE[outcome] then return end
  reply[at + DETAIL.WAIT] = outcome ~= HOLD and outcome ~= SLOWED and binding and binding.unknown and -1 or wait
  reply[at + DETAIL.METER] = binding and binding.at or 0
  reply[at + DETAIL.LIMIT] = binding and binding.n or 0
  reply[at + DETAIL.RANK] = rank or -1
  reply[at + DETAIL.STRICTNESS] = strictness or 0
  reply[at + DETAIL.MOST] = most and most < math.huge and reply[at + DETAIL.WAIT] >= 0 and most or -1
end

function Reply.add_meter(reply, meter)
  local size, limits, kept, offset, debts, claims = #reply, meter.rule.limits, meter.kept, meter.rule.offset, meter.debt, meter.claimed
  for n = 1, meter.rule.count do
    local used, debt = kept[offset + n], debts[n]
    reply[size + 1] = used + debt
    reply[size + 2] = claims[n]
    size = size + 2
    local algorithm = limits[n].algorithm
    if algorithm.tells_reset then
      size = size + 1
      reply[size] = used + debt > 0 and algorithm.ttl(limits[n], used, debt, reply[1], meter.histories[n]) or 0
    end
  end
end

function Reply.add_meters(reply, meters)
  for _, meter in ipairs(meters) do
    if meter.rule.kind ~= KIND.UPSTREAM then Reply.add_meter(reply, meter) end
  end
end

function Reply.pack(reply)
  local parts, size = {}, #reply
  for from = 1, size, PACKED_AT_ONCE do
    local count = min(PACKED_AT_ONCE, size - from + 1)
    local format = count == PACKED_AT_ONCE and FULL_FORMAT or '<' .. string.rep('d', count)
    parts[#parts + 1] = struct.pack(format, unpack(reply, from, from + count - 1))
  end
  return table.concat(parts)
end

-- Packed before the batch is saved: Meter.save writes 0 as the used of a concurrency, whose slots are a set.
function Reply.save(reply, batch)
  Reply.add_meters(reply, batch.meters)
  local packed = Reply.pack(reply)
  Batch.save(batch)
  return packed
end
end
