-- The end of a canary, and what a block tells. See lib/upstream.lua.

-- The canary has ended: recovery begins, or (it was never made, or refused) another one goes.
function upstream.end_canary(batch, call, charged, now, passed)
  local meter = upstream.block_of(batch, call)
  local history = meter and meter.histories[1]
  if not meter or history[upstream.SINCE] ~= 0 or history[upstream.CANARY_END] == 0 or charged.at ~= history[upstream.CANARY_AT] then
    return
  end
  history[upstream.CANARY_END] = 0
  meter.changed = true
  -- Another call was refused meanwhile: its time counts, and it was not asked for by this one.
  if passed and history[upstream.UNTIL] <= now then
    history[upstream.SINCE] = now
    meter.kept[meter.rule.offset + 1] = now + upstream.time_to_recover(history)
    upstream.empty_learned(meter, now)
  end
  if batch.any_line then
    stir(meter, now)
  end
end

-- What is known, as text: until when it is blocked, factor, since when, last cut, when it is
-- over, whether a canary is due. All 0 and a factor of 1 where nothing was said.
function upstream.tell_block(meter, now)
  local history = upstream.matters(meter) and meter.histories[1]
  if not history then
    return { text(now), '0', '1', '0', '0', '0', '0' }
  end
  return {
    text(now), text(history[upstream.UNTIL]), text(upstream.factor_at(history, now)), text(history[upstream.SINCE]), text(history[upstream.CUT_AT]),
    text(meter.kept[meter.rule.offset + 1]), history[upstream.SINCE] == 0 and '1' or '0',
  }
end
