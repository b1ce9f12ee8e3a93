-- Charge: what happens to the room of a meter: charged, overrun, given back. An algorithm
-- that remembers more than a number does its own part of it.
local Charge = {}
do
local min = math.min

-- Copies a list that is shared with the rule before it is written to.
local function own_list(meter, name)
  if meter[name] == meter.rule.zeros then meter[name] = { unpack(meter.rule.zeros) } end
  return meter[name]
end

-- The name under which a call is charged, by algorithms that remember charges one by one.
function Charge.name_of(call, limit)
  if limit.leased then
    return call[CALL_ID]
  elseif limit.algorithm.keyed then
    return call[CALL_TOKEN] .. '|' .. (call[CALL_LEDGER_KEY] or call[CALL_ID])
  end
end

function Charge.charge(meter, n, limit, cost, now, call)
  local place = meter.rule.offset + n
  if limit.algorithm.charge then
    meter.kept[place] = limit.algorithm.charge(limit, meter.histories[n], meter.kept[place], cost, now, Charge.name_of(call, limit))
  else
    meter.kept[place] = meter.kept[place] + cost
  end
  if not limit.leased then meter.changed = true end
end

-- Charges whether there is room or not; the part above the limit is debt.
-- @param at when the call was charged: where that counts still, its overrun stands beside it
function Charge.overrun(meter, n, limit, amount, at, now, call)
  local place = meter.rule.offset + n
  if limit.algorithm.overrun then
    local present, before = Meter.present(meter, now), meter.kept[place]
    meter.kept[place] = limit.algorithm.overrun(limit, meter.histories[n], before, amount, min(at, present), present, Charge.name_of(call, limit))
    meter.changed = meter.changed or meter.kept[place] ~= before
    return
  end
  meter.changed = true
  local used, capacity = meter.kept[place] + amount, limit.capacity
  if used > capacity then
    local debts = own_list(meter, 'debt')
    debts[n] = debts[n] + used - capacity
    used = capacity
  end
  meter.kept[place] = used
end

-- Gives back what was charged at a time, if that still counts. Returns whether it did.
-- @param charged what the call was charged then, of which `amount` comes back
function Charge.refund(meter, n, limit, amount, at, now, call, charged)
  local algorithm, place = limit.algorithm, meter.rule.offset + n
  -- Leases end by the clock as it is.
  now = limit.leased and now or Meter.present(meter, now)
  if algorithm.refund then
    local back
    meter.kept[place], back = algorithm.refund(limit, meter.histories[n], meter.kept[place], amount, at, now, Charge.name_of(call, limit), charged)
    if back and not limit.leased then meter.changed = true end
    return back
  end
  if not (algorithm.always_refundable or algorithm.refundable(limit, at, now)) then return false end
  local debt = meter.debt[n]
  if debt > 0 then
    local of_debt = min(debt, amount)
    own_list(meter, 'debt')[n] = debt - of_debt
    amount = amount - of_debt
  end
  local left = meter.kept[place] - amount
  meter.kept[place] = left > 0 and left or 0
  meter.changed = true
  return true
end

-- If a worker died after the start of a call, the call still holds its slots. The next start frees
-- them first, so no call holds two.
function Charge.take_over_slots(batch, call, now)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if meter.rule.leased then
      for n, limit in ipairs(meter.rule.limits) do
        if limit.leased then Charge.refund(meter, n, limit, 1, now, now, call) end
      end
    end
  end
end
end
