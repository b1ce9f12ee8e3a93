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

-- The name of a start, under which algorithms charge it that remember charges one by one. It is told from
-- other starts of the same call by its token and ledger (renewals: nameOfStart in script-client.ts).
function Charge.name_of(call, limit)
  if limit.algorithm.keyed then
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

-- A call has cost more than it was charged at a time.
function Charge.raise(meter, n, limit, amount, at, now, call)
  local place, debts = meter.rule.offset + n, meter.debt
  local before = meter.kept[place] + debts[n]
  Charge.overrun(meter, n, limit, amount, at, now, call)
  if limit.leaks and meter.kept[place] + meter.debt[n] > before then Lows.raise(meter, n, amount, at) end
end

-- Takes off what is used, debt first.
local function take_off(meter, n, amount)
  local place, debt = meter.rule.offset + n, meter.debt[n]
  if debt > 0 then
    local of_debt = min(debt, amount)
    own_list(meter, 'debt')[n] = debt - of_debt
    amount = amount - of_debt
  end
  local left = meter.kept[place] - amount
  meter.kept[place] = left > 0 and left or 0
  meter.changed = true
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
  if not (algorithm.always_refundable or algorithm.refundable(limit, at, now, meter.histories[n])) then return false end
  if limit.leaks then
    amount = Lows.give_back(meter, n, amount, at)
    if amount <= 0 then return false end
  end
  take_off(meter, n, amount)
  return true
end

-- The end of a call at a limit that keeps lows of it. Returns whether anything came back.
-- @param charged what the call was charged, of which `amount` was too much
function Charge.finish(meter, n, lows, charged, amount, at)
  if charged <= 0 then return false end
  local back = Lows.finish(meter, lows, amount, at, meter.kept[meter.rule.offset + n] + meter.debt[n])
  if back <= 0 then return false end
  take_off(meter, n, back)
  return true
end
end
