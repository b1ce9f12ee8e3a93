-- Upstream: what is known of the limits of an agent, endpoint and model, kept in one meter that every
-- call to it passes besides those of its rules. Nearly always nothing is known, the meter does not exist,
-- and a call pays for one missing key.
--
--   refused by the agent ─▶ blocked ─▶ probe ─▶ recovering ─▶ forgotten
--                              ▲         │          │
--                              └─────────┴──────────┘ refused again
--
-- blocked: nothing passes until the time that the agent asked for. probe: one call goes ahead of all
-- others; its end says whether the agent is there. recovering: so much of the mirrored limits is used
-- as the factor says, which grows by the clock (lib/recovery.lua).
--
-- If the worker of a probe dies, its lease ends and the next call becomes the probe; if the job of a
-- woken probe is lost, AWAITED ends and another call is woken.
--
-- meter.block is the list of numbers that lib/recovery.lua names, with `every` and `grows` of the rule,
-- and `over`: when all of this is forgotten. false = nothing is known.
local Upstream = {}
do
local max, min = math.max, math.min
local UNTIL, FACTOR, SINCE = Recovery.UNTIL, Recovery.FACTOR, Recovery.SINCE
local PROBE_END, PROBE_AT, AWAITED, OBSERVED, CUT_AT = Recovery.PROBE_END, Recovery.PROBE_AT, Recovery.AWAITED, Recovery.OBSERVED, Recovery.CUT_AT
local TIMES = { UNTIL, SINCE, PROBE_END, PROBE_AT, AWAITED, CUT_AT, Recovery.EVENT_AT, Recovery.ALONE_AT }
-- When a probe comes back is not known. Longer than a worker holds a call, so that others wait in line.
local PROBE_LOOK_MS = 2500
-- How long a woken probe is waited for before another one is woken.
local PROBE_AWAITED_MS = 1000
local text = Clock.text

local function with_rule(rule, block)
  block.every, block.grows = rule.recovery.every, rule.recovery.grows
  -- A process of the version before kept less.
  for place = #block + 1, Recovery.SIZE do
    block[place] = 0
  end
  return block
end

local function new_block(rule)
  return with_rule(rule, { 0, 1, 0, 0, 1, over = 0 })
end

-- The block among the meters of a call, which stands last; nil where nothing is known.
function Upstream.of(batch, call)
  local meter = batch.meters[call[#call]]
  return meter and meter.block and meter or nil
end

local function share_block(meter, block)
  local histories = {}
  for n = 1, meter.rule.count do
    histories[n] = block
  end
  meter.block, meter.histories = block, histories
end

local function unpack_value(meter, value, now)
  local rule, kept, block, lows = meter.rule, meter.kept, nil, {}
  kept[2] = struct.unpack('<d', value, 2)
  PackedMeter.each_entry(value, function(id, used, _, _, history)
    local n = rule.places[id]
    if id == rule.recovery.id and history then
      block = with_rule(rule, history)
      block.over = used
    elseif n then
      kept[rule.offset + n], lows[n] = used, history
    elseif id == Claims.ENTRY then
      Claims.unpack_entry(meter, used, history, now)
    elseif id == PackedMeter.OPEN then
      kept[1] = Rule.PLAIN + used
    end
  end)
  meter.lows = lows
  return block
end

-- The meter, brought to now. What is over is forgotten with all that was counted under it.
function Upstream.load(rule, first, value, now)
  local meter = Meter.new(rule, first)
  meter.kept = { unpack(rule.empty) }
  local block = value and string.byte(value) == Rule.EXTENDED and unpack_value(meter, value, now)
  local at = block and meter.kept[2] or now
  meter.kept[2] = max(at, now)
  if not block then return meter end
  if at > now + CLOCK_STEP_MS then
    -- The clock was set back: the block moves along, so that it is as long ago as it was.
    for _, place in ipairs(TIMES) do
      block[place] = block[place] > 0 and max(1, block[place] - (at - now)) or 0
    end
    block.over = max(0, block.over - (at - now))
    meter.kept[2], meter.changed = now, true
    Lows.forget(meter)
    Claims.forget(meter)
  end
  if block.over <= now then
    meter.kept, meter.lows = { unpack(rule.empty) }, Lows.NONE
    Claims.forget(meter)
    meter.kept[2] = now
    return meter
  end
  share_block(meter, block)
  for n, limit in ipairs(rule.limits) do
    local place = rule.offset + n
    if at < now and meter.kept[place] > 0 then
      meter.kept[place] = limit.roll(limit, meter.kept[place], 0, at, now, block)
    end
  end
  if at < now then Lows.pass(meter, at) end
  return meter
end

function Upstream.save(meter, now)
  local rule, block, key = meter.rule, meter.block, KEYS[meter.first]
  local ttl = block and block.over - now or 0
  if ttl <= 0 then
    redis.call('DEL', key)
    return
  end
  local parts = { PackedMeter.head(meter.kept[2]), PackedMeter.entry(rule.recovery.id, block.over, 0, block[AWAITED] > now and 1 or 0, block) }
  for n, limit in ipairs(rule.limits) do
    parts[n + 2] = PackedMeter.entry(limit.id, meter.kept[rule.offset + n], 0, 0, meter.lows[n])
  end
  parts[#parts + 1] = PackedMeter.open_entry(meter)
  ttl = max(ttl, Claims.ttl(meter, now))
  Claims.pack_entries(meter, parts, PackedMeter.entry)
  Clock.save(key, table.concat(parts), now, ttl)
end

-- Ms until the block lets a call pass; 0 = now. The mirrored limits are asked besides.
-- @param ahead whether other calls have a right to be the probe
function Upstream.wait(meter, now, ahead)
  local block = meter.block
  if not block or block.over <= now then return 0 end
  local probing = block[SINCE] == 0
  if block[UNTIL] > now then
    -- A probe is woken a little ahead of time, the calls behind it are not.
    local behind = probing and ahead and block[AWAITED] > now
    return Algorithms.wait_up(block[UNTIL] - now + (behind and PROBE_LOOK_MS or 0))
  end
  if not probing then return 0 end
  if block[PROBE_END] > now then return Algorithms.wait_up(min(PROBE_LOOK_MS, block[PROBE_END] - now)) end
  return ahead and Algorithms.wait_up(PROBE_LOOK_MS) or 0
end

-- Whether a woken probe has a right to pass that it has not used yet.
function Upstream.is_claimed(meter, now)
  return meter.block and meter.block[AWAITED] > now
end

-- Whether a call waits for the end of a probe, which is not known.
function Upstream.awaits_probe(meter, now)
  return meter.block and meter.block[UNTIL] <= now
end

-- A call was woken that may become the probe. Returns until when it is waited for, 0 where no probe is due.
-- @param ends until when what the call claims counts
function Upstream.claim(meter, ends)
  local block = meter.block
  if not block or block[SINCE] ~= 0 then return 0 end
  block[AWAITED] = max(ends, block[UNTIL] + PROBE_AWAITED_MS)
  meter.changed = true
  return block[AWAITED]
end

-- @param awaited what `Upstream.claim` returned: where another call is waited for since, nothing changes
function Upstream.unclaim(meter, awaited)
  local block = meter.block
  if block and block[AWAITED] == awaited then
    block[AWAITED] = 0
    meter.changed = true
  end
end

-- A call starts: as the probe, or at the cost of the mirrored limits.
function Upstream.start(meter, call, now)
  local rule, block = meter.rule, meter.block
  if not block then return end
  meter.changed = true
  if block[SINCE] == 0 then
    block[PROBE_END], block[PROBE_AT], block[AWAITED] = now + rule.recovery.probe_lease, now, 0
    -- Nothing is forgotten before the probe is back.
    block.over = max(block.over, block[PROBE_END])
  elseif Recovery.is_cut(block, now) then
    for n, limit in ipairs(rule.limits) do
      meter.kept[rule.offset + n] = meter.kept[rule.offset + n] + call[limit.cost_at]
    end
    if rule.keeps_lows or Lows.any(meter) then meter.kept[1] = meter.kept[1] + 1 end
  end
end

-- Mirrored buckets begin empty: what the agent has left is not known. Nothing that was charged before
-- goes back.
local function empty_mirrored(meter, at)
  Lows.forget(meter)
  for n, limit in ipairs(meter.rule.limits) do
    meter.kept[meter.rule.offset + n] = Recovery.capacity(limit, meter.block, at)
  end
end

-- A call has ended. If it was the probe, recovery begins; a probe that was never made, or refused,
-- makes way for another one.
function Upstream.end_call(batch, call, charged, now, passed)
  local meter = Upstream.of(batch, call)
  local block = meter and meter.block
  if not block then return end
  if passed and Refusal.note_passed(block, charged.at) then meter.changed = true end
  if block[SINCE] ~= 0 or block[PROBE_END] == 0 or charged.at ~= block[PROBE_AT] then return end
  block[PROBE_END] = 0
  meter.changed = true
  -- If another call was refused while the probe ran, its block is not over: recovery does not begin.
  if passed and block[UNTIL] <= now then
    block[SINCE] = now
    block.over = now + Recovery.duration(block)
    empty_mirrored(meter, now)
  end
  if batch.any_line then Line.stir(meter, now) end
end

local function block_of(meter)
  if not meter.block then share_block(meter, new_block(meter.rule)) end
  return meter.block
end

-- The agent refused a call that started at a time, and asks to be left alone for `wait` ms: see
-- lib/refusal.lua. A shorter block never shortens a longer one.
-- Returns the kind of the refusal, whether the factor was cut, and the part that this call's cut leaves of it.
function Upstream.refused(meter, now, wait, started, reduce, before)
  local known, block = meter.block, block_of(meter)
  local kind = known and Refusal.kind_of(block, now, started, before) or REFUSAL.BLOCKS
  if kind == REFUSAL.STALE then return kind, false, 1 end
  meter.changed = true
  if kind == REFUSAL.ALONE then return kind, false, Refusal.alone(block, now, wait, before) end
  local cut, share = false, 1
  if kind == REFUSAL.BLOCKS then
    cut, share = Refusal.blocks(block, now, wait, started, reduce)
  else
    block[UNTIL] = max(block[UNTIL], now + wait)
  end
  if meter.rule.recovery.probe_lease == 0 then
    block[SINCE] = block[UNTIL]
  elseif kind == REFUSAL.BLOCKS then
    block[SINCE] = 0
  end
  block[AWAITED] = 0
  empty_mirrored(meter, block[UNTIL])
  block.over = block[UNTIL] + Recovery.duration(block)
  return kind, cut, share
end

-- The agent has nothing left before a time: nothing is cut, and no call goes ahead.
function Upstream.pause(meter, till)
  local block = block_of(meter)
  block[UNTIL] = max(block[UNTIL], till)
  if block[FACTOR] >= 1 then block[SINCE] = block[UNTIL] end
  block.over = max(block.over, block[UNTIL])
  meter.changed = true
end

-- @param rates units per ms that the agent was seen to allow, by unit; 0 = it did not say
function Upstream.note_observed(meter, rates)
  if not meter.block then return end
  for unit, rate in ipairs(rates) do
    if rate > 0 then
      meter.block[OBSERVED + unit] = rate
      meter.changed = true
    end
  end
end

function Upstream.lift(meter)
  meter.block, meter.changed = false, true
end

-- Ms until the block ends.
function Upstream.blocked(meter, now)
  return meter.block and max(0, meter.block[UNTIL] - now) or 0
end

-- What is known, as text: now, until when it is blocked, the factor, since when it grows, when it was
-- cut last, when all of this is over, 1 if a probe is due or under way. All 0 and a factor of 1 where
-- nothing is known.
function Upstream.status(meter, now)
  local block = meter.block
  if not block then return { text(now), '0', '1', '0', '0', '0', '0' } end
  return {
    text(now), text(block[UNTIL]), text(Recovery.factor_at(block, now)), text(block[SINCE]), text(block[CUT_AT]), text(block.over),
    block[SINCE] == 0 and '1' or '0',
  }
end
end
