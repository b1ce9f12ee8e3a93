-- What happens to the room of a meter: claimed, charged, overrun, given back. An algorithm
-- that remembers more than a number does its own part of it.

-- Copies what is shared with the rule before it is written to.
local function own_list(meter, name)
  if meter[name] == meter.rule.zeros then
    meter[name] = { unpack(meter.rule.zeros) }
  end
  return meter[name]
end

local function set_claimed(meter, n, amount)
  own_list(meter, 'claimed')[n] = max(0, amount)
  meter.changed = true
end

-- A canary was woken, or (0) is not waited for any more.
function upstream.await_canary(meter, till)
  meter.histories[1][upstream.AWAITED] = till
  set_claimed(meter, 1, till > 0 and 1 or 0)
end

-- @param of who is charged: where charges are remembered one by one
local function charge(meter, n, limit, cost, now, of)
  local place = meter.rule.offset + n
  if limit.algorithm.charge then
    meter.kept[place] = limit.algorithm.charge(limit, meter.histories[n], meter.kept[place], cost, now, of)
  else
    meter.kept[place] = meter.kept[place] + cost
  end
  if not limit.leased then
    meter.changed = true
  end
end

-- Overrun found at settlement: recorded in full, what is above the limit as debt.
-- @param at when the call was charged: where that counts still, its overrun stands beside it
local function overrun(meter, n, limit, amount, at, now, of)
  local place = meter.rule.offset + n
  meter.changed = true
  if limit.algorithm.overrun then
    local present = present_of(meter, now)
    meter.kept[place] = limit.algorithm.overrun(limit, meter.histories[n], meter.kept[place], amount, min(at, present), present, of)
    return
  end
  local used, capacity = meter.kept[place] + amount, limit[LIMIT_CAPACITY]
  if used > capacity then
    local debts = own_list(meter, 'debt')
    debts[n] = debts[n] + used - capacity
    used = capacity
  end
  meter.kept[place] = used
end

-- Gives back what was charged at a time, if that still counts. Returns whether it did.
-- @param charged what the call was charged then, of which `amount` comes back
local function refund(meter, n, limit, amount, at, now, of, charged)
  local algorithm, place = limit.algorithm, meter.rule.offset + n
  -- Leases end by the clock as it is.
  now = limit.leased and now or present_of(meter, now)
  if algorithm.refund then
    local back
    meter.kept[place], back = algorithm.refund(limit, meter.histories[n], meter.kept[place], amount, at, now, of, charged)
    if back and not limit.leased then
      meter.changed = true
    end
    return back
  end
  if not (algorithm.always_refundable or algorithm.refundable(limit, at, now)) then
    return false
  end
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
