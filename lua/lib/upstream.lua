-- What becomes of a block when its agent says something, when a call starts under it, and when
-- its canary ends. See algorithms/block.lua for what is remembered.

function upstream.empty_learned(meter, now)
  local rule, history = meter.rule, meter.histories[1]
  for n = 2, rule.count do
    meter.kept[rule.offset + n] = upstream.learned_capacity(rule[3][n], history, now)
  end
end

-- The block's history; forgotten if what was said is over.
function upstream.block_history(meter)
  if meter.histories[1] == nil then
    meter.histories = open_histories(meter, nil, meter.first)
  end
  if not upstream.matters(meter) then
    local fresh = algorithms[BLOCK].open(meter.rule[3][1], nil)
    for place = 1, #fresh do
      meter.histories[1][place] = fresh[place]
    end
    meter.histories[1].over = false
  end
  return meter.histories[1]
end

-- A call that started at a time was refused: at which level to go on.
function upstream.cut_level(history, started, reduce)
  local steps = upstream.steps_until(history, started)
  if steps >= 1 then
    -- The level before its step has held: back to it, and a longer time until the next try.
    history[upstream.LEVEL] = upstream.level_after(history, steps - 1)
    history[upstream.PROVEN] = history[upstream.LEVEL]
    history[upstream.PATIENCE] = min(upstream.MOST_PATIENCE, history[upstream.PATIENCE] * 2)
  elseif history[upstream.PROVEN] > 0 and history[upstream.LEVEL] <= history[upstream.PROVEN] then
    -- It held before: what the try has left behind at the agent is no reason to halve it. Once.
    history[upstream.PROVEN] = 0
  else
    history[upstream.LEVEL], history[upstream.PROVEN] = max(upstream.LEAST_LEVEL, history[upstream.LEVEL] * reduce), 0
  end
end

-- The agent refused a call. Those in flight that are refused with it are one event: who started
-- before recovery began only prolongs the block, and so does the canary: that it came too
-- early says nothing about the rate. Returns whether it was cut.
function upstream.refused(meter, now, till, started, reduce)
  local history = upstream.block_history(meter)
  local recovering = history[upstream.SINCE] > 0
  local cut = history[upstream.LEVEL] >= 1 or (recovering and started >= history[upstream.SINCE])
  if history[upstream.LEVEL] >= 1 then
    history[upstream.LEVEL], history[upstream.PROVEN], history[upstream.PATIENCE] = max(upstream.LEAST_LEVEL, reduce), 0, 1
  elseif cut then
    upstream.cut_level(history, started, reduce)
  elseif recovering then
    history[upstream.LEVEL] = upstream.factor_at(history, now)
  end
  if cut then
    history[upstream.CUT_AT] = now
  end
  history[upstream.UNTIL] = max(history[upstream.UNTIL], till)
  if recovering then
    history[upstream.CANARY_END] = 0
  end
  history[upstream.SINCE] = meter.rule[3][1][LIMIT_CAPACITY] > 0 and 0 or history[upstream.UNTIL]
  history[upstream.AWAITED] = 0
  meter.claimed = meter.rule.zeros
  upstream.empty_learned(meter, history[upstream.UNTIL])
  meter.kept[meter.rule.offset + 1] = history[upstream.UNTIL] + upstream.time_to_recover(history)
  meter.changed = true
  return cut
end

-- The agent has nothing left before a time: nothing is cut, nobody goes ahead.
function upstream.pause(meter, now, till)
  local history, place = upstream.block_history(meter), meter.rule.offset + 1
  history[upstream.UNTIL] = max(history[upstream.UNTIL], till)
  if history[upstream.LEVEL] >= 1 then
    history[upstream.SINCE] = history[upstream.UNTIL]
  end
  meter.kept[place] = max(meter.kept[place], history[upstream.UNTIL])
  meter.changed = true
end

-- @param rates units per ms that the agent was seen to allow, by unit; 0 = it did not say
function upstream.note_observed(meter, rates)
  if not upstream.matters(meter) then
    return
  end
  for unit, rate in ipairs(rates) do
    if rate > 0 then
      meter.histories[1][upstream.OBSERVED + unit] = rate
      meter.changed = true
    end
  end
end

-- The block among the meters of a call, which is the last, if anything was said.
function upstream.block_of(batch, call)
  local meter = batch.meters[call[#call]]
  return meter and meter.rule.blocks and upstream.matters(meter) and meter or nil
end

-- A call starts while what was said matters: as the canary, or at the cost of the mirrored limits.
function upstream.start_learning(meter, call, now)
  local rule, history = meter.rule, meter.histories[1]
  meter.changed = true
  if history[upstream.SINCE] == 0 then
    history[upstream.CANARY_END], history[upstream.CANARY_AT] = now + rule[3][1][LIMIT_CAPACITY], now
    -- Nothing of it is over before its canary is back.
    meter.kept[rule.offset + 1] = max(meter.kept[rule.offset + 1], history[upstream.CANARY_END])
    upstream.await_canary(meter, 0)
  elseif upstream.is_cut(history, now) then
    for n = 2, rule.count do
      meter.kept[rule.offset + n] = meter.kept[rule.offset + n] + call[rule[3][n].cost_at]
    end
  end
end
