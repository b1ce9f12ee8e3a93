-- Settlement: what was charged by estimate becomes what it really cost. Less goes back, to
-- the window that was charged only; more is recorded in full, as debt where it exceeds the
-- limit. Without an open ledger entry under the call's token nothing happens, so a
-- settlement sent twice counts once.

-- The open ledger entry of a call, if this batch has not closed it. Keys end by Redis' clock,
-- entries also by one that is given.
local function open_entry_of(batch, call, now)
  local charged = call[CALL_PARSED]
  if not charged or charged.state ~= 'S' or charged.token ~= call[CALL_TOKEN] or charged.at + LEDGER_TTL_MS <= now then
    return nil
  end
  local settled, entry = batch.settled, call[CALL_RECORD_KEY]
  if call[CALL_LEDGER_KEY] then
    settled, entry = ledger_of(batch, call[CALL_LEDGER_KEY]).settled, call[CALL_TOKEN]
  end
  return not settled[entry] and charged or nil, settled, entry
end

-- Changes what every meter was charged to what the call says it cost; -1 stays as it was.
local function charge_actual(batch, call, charged, now)
  local list, base, offsets = charged.list, charged.base, charged.offsets
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule, kept, debts = meter.rule, meter.kept, meter.debt
    local limits, offset, freed = rule[3], rule.offset, false
    for n = 1, upstream.limits_met(meter) do
      local limit = limits[n]
      local place, cost = offsets[limit[LIMIT_UNIT]], call[limit.cost_at]
      local was = place and list[base + place]
      if limit.leased then
        freed = refund(meter, n, limit, 1, charged.at, now, call[CALL_ID]) or freed
      elseif was and cost >= 0 and cost ~= was and n <= rule.active then
        if cost < was and limit.gives_back and debts[n] == 0 then
          -- As refund does; nearly all settlements are of this kind.
          local left = kept[offset + n] - (was - cost)
          kept[offset + n] = left > 0 and left or 0
          meter.changed, freed = true, true
        elseif cost > was then
          overrun(meter, n, limit, cost - was, charged.at, now, charged_as(call, limit))
        else
          freed = refund(meter, n, limit, was - cost, charged.at, now, charged_as(call, limit), was) or freed
        end
      end
    end
    if freed and batch.any_line then
      stir(meter, now)
    end
  end
end

local function settle(batch, call, now)
  local charged, settled, entry = open_entry_of(batch, call, now)
  if not charged then
    return false
  end
  settled[entry] = true
  charge_actual(batch, call, charged, now)
  drop_record(batch, call)
  return charged
end

-- The end of a call.
local function settle_ended(batch, call, now)
  local charged = settle(batch, call, now)
  if not charged then
    return false
  end
  upstream.end_canary(batch, call, charged, now, true)
  count(batch, 'settled', 1)
  local estimated, actual = charged_cost(charged, UNIT_TOKENS), call[CALL_COST + UNIT_TOKENS]
  if estimated and actual >= 0 then
    count(batch, 'estimated', estimated)
    count(batch, 'actual', actual)
  end
  return true
end

-- A call that goes on has cost so much by now: what exceeds its charge is recorded, nothing
-- goes back. Said again, or late, it changes nothing.
local function settle_part(batch, call, now)
  local charged = open_entry_of(batch, call, now)
  if not charged then
    return false
  end
  local raised = {}
  each_limit(batch, call, function(meter, n, cost, limit)
    local unit = limit[LIMIT_UNIT]
    local was = charged_cost(charged, unit)
    if was and cost > was then
      overrun(meter, n, limit, cost - was, charged.at, now, charged_as(call, limit))
      raised[unit] = true
    end
  end)
  -- What no limit of today counts was not charged, and is not given back later.
  if next(raised) then
    for unit in pairs(raised) do
      charged.list[charged.base + charged.offsets[unit]] = call[CALL_COST + unit]
    end
    change_entry(batch, call, charged)
  end
  return true
end

-- Settles as if the call had never been made.
local function settle_as_nothing(batch, call, now)
  local estimated = { unpack(call, CALL_COST + 1, CALL_COST + COST_UNITS) }
  for unit = 1, COST_UNITS do
    call[CALL_COST + unit] = 0
  end
  local settled = settle(batch, call, now)
  for unit = 1, COST_UNITS do
    call[CALL_COST + unit] = estimated[unit]
  end
  if settled then
    upstream.end_canary(batch, call, settled, now, false)
    count(batch, 'released', 1)
  end
  return settled and true
end
