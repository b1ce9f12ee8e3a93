-- Pass: the right of a woken call to start, and what was claimed for it. Its record remembers at which
-- meters that was, how much of which limit, and until when it counts; what is given back is that, under
-- whatever rules. Parsed:
--   { ends, { key of the meter, { id of the limit, amount, id, amount, … }, awaited, lasts }, … }
-- `awaited` is of the block of an agent: until when it waits for the call as its probe, 0 = it does not.
--
-- At a meter that refuses calls without room a call claims from the front door to its start, also while it
-- stands in line: else calls that come later would take the room of a budget that it is going to need, and
-- it would be refused at the end of its wait. `lasts` has the ends of these claims, one for each amount
-- (Claims.end_of_memory); nil at the other meters, where all amounts end at `ends`. A call in line has
-- claims of this kind alone; `ends` is 0 then.
--
-- A meter of the batch is changed there. One that is not in the batch (its rule is gone since, or the call
-- is another by now) is changed in its stored value, if its key was declared; else that part ends by
-- itself. Without room left a pass stays what it is, the right to start: the call is decided beside the
-- claims of others then.
local Pass = {
  -- What a call claims: its room at all its meters, or at those that refuse alone.
  ROOM = 1,
  AT_STRICT = 2,
}
do
local max = math.max
local text = Clock.text
local NOTHING = {}

-- Whether a meter refuses calls without room: this one, or others, of which it may be that this one waits.
function Pass.is_strict(call, rule)
  if rule.kind == KIND.PAUSE or rule.kind == KIND.UPSTREAM then return false end
  return max(rule.strictness, Decide.strictness_of(call, rule)) > STRICTNESS.THROTTLE
end

-- Claims room at meters of a call, also at limits that an override lifts. Returns nil where it claims nothing.
-- @param slot when it starts; nil = not known: it claims at meters that refuse alone
-- @param standing_at the meter in whose line it stands, which counts it there
local function claim(batch, call, slot, standing_at)
  local now, ends = batch.now, slot and Claims.end_of(slot) or 0
  local taken, part, of, strict = { ends }, nil, nil, false
  local function part_of(meter)
    if not part then
      part = { KEYS[meter.first], {}, 0, strict and {} or nil }
      taken[#taken + 1] = part
    end
    return part
  end
  Decide.each_limit(batch, call, function(meter, _, cost, limit)
    if of ~= meter then
      part, of, strict = nil, meter, meter ~= standing_at and Pass.is_strict(call, meter.rule)
    end
    if cost <= 0 or not (slot or strict) then return end
    local amounts, lasts = part_of(meter)[2], part[4]
    local last = strict and max(ends, Claims.end_of_memory(limit, now)) or ends
    amounts[#amounts + 1], amounts[#amounts + 2] = limit.id, cost
    if strict then lasts[#lasts + 1] = last end
    Claims.add(meter, limit.id, cost, last)
  end)
  local block = slot and Upstream.of(batch, call)
  local awaited = block and Upstream.claim(block, ends) or 0
  if awaited > 0 then
    if of ~= block then
      part, of, strict = nil, block, false
    end
    part_of(block)[3] = awaited
  end
  return (slot or #taken > 1) and taken or nil
end

-- What a call claims that gets a place in line. @param meter that of the line, nil = it has none
function Pass.claim_in_line(batch, call, meter)
  return claim(batch, call, nil, meter)
end

-- The room that is claimed for a call at all meters that it had then: nil where it has none, or it counts no longer.
function Pass.claims(record, now)
  local claims = record.claims
  return claims and claims[1] > now and claims or nil
end

-- Whether anything that a call has claimed counts still.
function Pass.holds(record, now)
  local claims = record.claims or NOTHING
  if (claims[1] or 0) > now then return true end
  for i = 2, #claims do
    for _, last in ipairs(claims[i][4] or NOTHING) do
      if last > now then return true end
    end
  end
  return false
end

-- What is left of the claims of a call once its room has gone back: those at meters that refuse.
function Pass.keep_at_strict(record, now)
  local kept = { 0 }
  for i = 2, #record.claims do
    if record.claims[i][4] then kept[#kept + 1] = record.claims[i] end
  end
  record.claims = kept
  if not Pass.holds(record, now) then record.claims = nil end
end

local function meter_of(batch, call, key)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if KEYS[meter.first] == key then return meter end
  end
  for _, meter in ipairs(batch.meters) do
    if KEYS[meter.first] == key then return meter end
  end
end

-- Whether all that was claimed for a call can be given back by this script call.
function Pass.in_reach(batch, call, record, now)
  local claims = Pass.holds(record, now) and record.claims
  for i = 2, claims and #claims or 0 do
    local key = claims[i][1]
    if not meter_of(batch, call, key) and not Batch.declares(batch, key) then return false end
  end
  return true
end

-- Whether room was claimed at all meters that a call needs now.
function Pass.covers(batch, call, record, now)
  local claims = Pass.claims(record, now)
  if not claims then return false end
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule, covered = meter.rule, meter.rule.kind == KIND.UPSTREAM
    for i = 2, covered and 0 or #claims do
      covered = covered or claims[i][1] == KEYS[meter.first]
    end
    for n = 1, covered and 0 or rule.active do
      if call[rule.limits[n].cost_at] > 0 then return false end
    end
  end
  return true
end

-- Takes amounts off the stored value of a meter that is not in the batch.
-- @param lasts until when each of them counts, nil = all until `ends`
local function give_back_stored(key, amounts, lasts, ends, now)
  local value = redis.call('GET', key)
  if not value or string.byte(value) ~= Rule.EXTENDED then return end
  local parts, holds = { PackedMeter.head(struct.unpack('<d', value, 2)) }, false
  PackedMeter.each_entry(value, function(id, used, debt, flag, list)
    local of_claims = id == Claims.ENTRY
    for i = 1, of_claims and list and #amounts or 0, 2 do
      local last = lasts and lasts[(i + 1) / 2] or ends
      if amounts[i] == used and last > now then Claims.remove(list, last, amounts[i + 1]) end
    end
    local left = list and #list > 0
    if left or not of_claims then parts[#parts + 1] = PackedMeter.entry(id, used, debt, flag, list) end
    holds = holds or left or not of_claims and id ~= PackedMeter.OPEN and used + debt > 0
  end)
  if holds then
    redis.call('SET', key, table.concat(parts), 'KEEPTTL')
  else
    redis.call('DEL', key)
  end
end

-- Gives back what was claimed for a call, and nothing else. What counts no longer has gone back already.
function Pass.give_back(batch, call, record, now)
  local claims = record.claims
  record.claims = nil
  for i = 2, claims and #claims or 0 do
    local key, amounts, awaited, lasts = unpack(claims[i], 1, 4)
    local meter = meter_of(batch, call, key)
    if meter then
      for at = 1, #amounts, 2 do
        local ends = lasts and lasts[(at + 1) / 2] or claims[1]
        if ends > now then Claims.take_off(meter, amounts[at], amounts[at + 1], ends) end
      end
      if awaited > 0 and claims[1] > now then Upstream.unclaim(meter, awaited) end
    elseif Batch.declares(batch, key) then
      give_back_stored(key, amounts, lasts, claims[1], now)
    end
  end
end

-- Gives a call the right to start from a slot on, at its place in the order. Its record is kept with it.
-- @param claims what is kept for it: ROOM or AT_STRICT, nil = nothing
-- @param look when to look after it, if it has not started by then
function Pass.give(batch, call, record, slot, claims, look)
  local now = batch.now
  Pass.give_back(batch, call, record, now)
  record.slot, record.granted = slot, now
  record.claims = claims and claim(batch, call, claims == Pass.ROOM and slot or nil) or nil
  Record.save_passed(call[CALL_RECORD_KEY], record)
  redis.call('ZADD', KEYS[FIXED.PASSES], text(look), call[CALL_ID])
end

-- Claims room for a call that has a pass, until a time after which it starts.
function Pass.claim(batch, call, record, slot)
  Pass.give_back(batch, call, record, batch.now)
  record.claims = claim(batch, call, slot)
  Record.save_passed(call[CALL_RECORD_KEY], record)
  redis.call('ZADD', KEYS[FIXED.PASSES], text(record.claims[1]), call[CALL_ID])
end

-- Gives back what a call has claimed that stands in a line, and lets the lines behind it move.
function Pass.let_go(batch, call, record, now)
  if not Pass.holds(record, now) then return end
  Pass.give_back(batch, call, record, now)
  Line.stir_all(batch, call, now)
end

function Pass.give_up(batch, call, record, now)
  Pass.give_back(batch, call, record, now)
  redis.call('ZREM', KEYS[FIXED.PASSES], call[CALL_ID])
end
end
