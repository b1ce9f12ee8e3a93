-- Settlement: what was charged by estimate becomes what the call really cost. Less goes back, to the
-- window that was charged only; more is recorded in full, as debt where it exceeds the limit. Without
-- an open ledger entry under the call's token nothing happens, so a settlement sent twice counts once.
local Settlement = {}
do
local PLAIN = Rule.PLAIN
local NO_LIMITS = {}

-- The open ledger entry of a call, if this batch has not closed it. Keys end by Redis' clock, entries
-- also by a clock that is given.
local function open_entry_of(batch, call, now)
  local charged = call[CALL_PARSED]
  if not charged or charged.state ~= 'S' or charged.token ~= call[CALL_TOKEN] or charged.at + LEDGER_TTL_MS <= now then
    return nil
  end
  local settled, entry = batch.settled, call[CALL_RECORD_KEY]
  if call[CALL_LEDGER_KEY] then settled, entry = Ledger.of(batch, call[CALL_LEDGER_KEY]).settled, call[CALL_TOKEN] end
  return not settled[entry] and charged or nil, settled, entry
end

-- Changes what every meter was charged to what the call cost; a cost of -1 stays as it was. Slots are given
-- back, unless the handler of the call goes on.
local function charge_actual(batch, call, charged, now, keeps_slots)
  local list, base, offsets, at = charged.list, charged.base, charged.offsets, charged.at
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule, kept = meter.rule, meter.kept
    local limits, freed, counted, present = rule.limits, false, false, kept[2]
    for n = 1, (rule.kind ~= KIND.UPSTREAM or meter.block) and rule.count or 0 do
      local limit = limits[n]
      local place, cost = offsets[limit.unit], call[limit.cost_at]
      local was = place and list[base + place]
      if limit.leased and keeps_slots then
        -- The handler is still at the agent.
      elseif limit.leased then
        freed = Charge.refund(meter, n, limit, 1, at, now, call) or freed
      elseif was and n <= rule.active then
        local lows = at < present and meter.lows[n]
        counted = counted or was > 0
        if lows and limit.keeps_lows and cost <= was then
          freed = Charge.finish(meter, n, lows, was, cost >= 0 and was - cost or 0, at) or freed
        else
          if cost > was then
            Charge.raise(meter, n, limit, cost - was, at, now, call)
          elseif cost >= 0 and cost < was and (not limit.keeps_lows or at == present) then
            freed = Charge.refund(meter, n, limit, was - cost, at, now, call, was) or freed
          end
          if was > 0 and at < present and meter.lows[n] then Lows.close(meter, n, at) end
        end
      end
    end
    if counted and at == present and kept[1] > PLAIN then kept[1], meter.changed = kept[1] - 1, true end
    if freed and batch.any_line then Line.stir(meter, now) end
  end
end

local function settle(batch, call, now, keeps_slots)
  local charged, settled, entry = open_entry_of(batch, call, now)
  if not charged then return false end
  settled[entry] = true
  charge_actual(batch, call, charged, now, keeps_slots)
  Batch.drop_record(batch, call)
  return charged
end

-- The end of a call. Returns whether its entry was open.
function Settlement.finish(batch, call, now, keeps_slots)
  local charged = settle(batch, call, now, keeps_slots)
  if not charged then return false end
  Upstream.end_call(batch, call, charged, now, true)
  Figures.count(batch, 'settled', 1)
  local estimated, actual = Record.charged_cost(charged, UNIT.TOKENS), call[CALL_COST + UNIT.TOKENS]
  if estimated and actual >= 0 then
    Figures.count(batch, 'estimated', estimated)
    Figures.count(batch, 'actual', actual)
  end
  return true
end

function Settlement.finish_cost(batch, call, now)
  return Settlement.finish(batch, call, now, true)
end

-- Gives back the slots of a start whose cost was settled before. They are found under its own name.
function Settlement.free_slots(batch, call, now)
  local any = false
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local freed = false
    for n, limit in ipairs(meter.rule.leased and meter.rule.limits or NO_LIMITS) do
      if limit.leased then freed = Charge.refund(meter, n, limit, 1, now, now, call) or freed end
    end
    if freed and batch.any_line then Line.stir(meter, now) end
    any = any or freed
  end
  return any
end

-- A call that goes on has cost so much by now: what exceeds its charge is recorded, nothing goes
-- back. Sent again, or late, it changes nothing.
function Settlement.part(batch, call, now)
  local charged = open_entry_of(batch, call, now)
  if not charged then return false end
  local raised = {}
  Decide.each_limit(batch, call, function(meter, n, cost, limit)
    local was = Record.charged_cost(charged, limit.unit)
    -- Of a limit that an override lifts it leaves no debt, as a start does not charge it.
    if was and cost > was and n <= meter.rule.active then
      Charge.raise(meter, n, limit, cost - was, charged.at, now, call)
      raised[limit.unit] = true
    end
  end)
  -- A unit that no current limit counts was not charged by this: its entry keeps what was charged.
  if next(raised) then
    for unit in pairs(raised) do
      charged.list[charged.base + charged.offsets[unit]] = call[CALL_COST + unit]
    end
    Batch.change_entry(batch, call, charged)
  end
  return true
end

-- Settles as if the call had never been made.
function Settlement.undo(batch, call, now)
  local estimated = { unpack(call, CALL_COST + 1, CALL_COST + COST_UNITS) }
  for unit = 1, COST_UNITS do
    call[CALL_COST + unit] = 0
  end
  local settled = settle(batch, call, now)
  for unit = 1, COST_UNITS do
    call[CALL_COST + unit] = estimated[unit]
  end
  if settled then
    Upstream.end_call(batch, call, settled, now, false)
    Figures.count(batch, 'released', 1)
  end
  return settled and true
end
end
