-- Settlement: what was charged by estimate becomes what it really cost. Less goes back, to
-- the window that was charged only; more is recorded in full, as debt where it exceeds the
-- limit. Without an open ledger entry under the call's token nothing happens, so a
-- settlement sent twice counts once.

local function settle(batch, call, now)
  local charged = call[CALL_PARSED]
  if not charged or charged.state ~= 'S' or charged.token ~= call[CALL_TOKEN] then
    return false
  end
  -- The same call again in this batch finds its entry closed.
  local settled, entry = batch.settled, call[CALL_RECORD_KEY]
  if call[CALL_LEDGER_KEY] then
    settled, entry = ledger_of(batch, call[CALL_LEDGER_KEY]).settled, call[CALL_TOKEN]
  end
  if settled[entry] then
    return false
  end
  settled[entry] = true
  -- What each unit is off by; a cost of -1 stays as estimated.
  local requests, tokens = call[CALL_REQUESTS], call[CALL_TOKENS]
  local off = { requests >= 0 and requests - charged.requests or 0, tokens >= 0 and tokens - charged.tokens or 0, 0, 0 }
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local limits, freed = meter.rule[3], false
    for n = 1, meter.rule.count do
      local limit = limits[n]
      if limit.leased then
        if redis.call('ZREM', meter.lease_key, call[CALL_ID]) == 1 then
          meter.kept[meter.offset + n] = max(0, meter.kept[meter.offset + n] - 1)
          freed = true
        end
      else
        local difference = off[limit[LIMIT_UNIT]]
        if difference > 0 then
          overrun(meter, n, limit, difference)
        elseif difference < 0 then
          freed = refund(meter, n, limit, -difference, charged.at, now) or freed
        end
      end
    end
    if freed and batch.any_line then
      stir(meter, now)
    end
  end
  drop_record(batch, call)
  return true
end

-- Settles at a given cost, whatever the call says; it says the same afterwards.
local function settle_as(batch, call, requests, tokens, now)
  local estimated_requests, estimated_tokens = call[CALL_REQUESTS], call[CALL_TOKENS]
  call[CALL_REQUESTS], call[CALL_TOKENS] = requests, tokens
  local settled = settle(batch, call, now)
  call[CALL_REQUESTS], call[CALL_TOKENS] = estimated_requests, estimated_tokens
  return settled
end
