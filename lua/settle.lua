--[[
  Replaces the estimate of started calls by what they really cost and closes their
  ledger entries. Less than estimated goes back, to the window that was charged only;
  more is recorded in full, as debt where it exceeds the limit. Settling a call that
  has no open entry under the same token changes nothing, so a settlement sent twice
  counts once.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; requests and tokens are the actual cost, -1 = as estimated

  Reply       per call 1 if it was settled, 0 if there was nothing to settle
  Cost        one MGET, one SET per meter that changes, one DEL per call
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local reply = {}

local function settle(call)
  local charged = call.record
  local stirred = {}
  each_limit(batch, call, function(meter, _, state, limit)
    local unit = limit[LIMIT_UNIT]
    local difference = 0
    if unit == 1 and call[CALL_REQUESTS] >= 0 then
      difference = call[CALL_REQUESTS] - charged.requests
    elseif unit == 2 and call[CALL_TOKENS] >= 0 then
      difference = call[CALL_TOKENS] - charged.tokens
    elseif unit == UNIT_CONCURRENCY then
      redis.call('ZREM', meter.lease_key, call[CALL_ID])
      stirred[meter] = true
    end
    if difference > 0 then
      overrun(state, limit, difference)
      meter.changed = true
    elseif difference < 0 then
      refund(state, limit, -difference, charged.at, now)
      meter.changed = true
      stirred[meter] = true
    end
  end)
  drop_record(call)
  for meter in pairs(stirred) do
    stir(meter, now)
  end
end

for i, call in ipairs(batch.calls) do
  local record = call.record
  if record and record.state == 'S' and record.token == call[CALL_TOKEN] then
    settle(call)
    -- The same call twice in one batch settles once, too.
    call.record.state = 'done'
    for j = i + 1, #batch.calls do
      if batch.calls[j].record_key == call.record_key and batch.calls[j][CALL_TOKEN] == call[CALL_TOKEN] then
        batch.calls[j].record = nil
      end
    end
    reply[i] = 1
  else
    reply[i] = 0
  end
end

save_changed(batch, now)
return reply
