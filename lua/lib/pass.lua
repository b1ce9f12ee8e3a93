-- Pass: the right of a woken call to start, and what was claimed for it. Its record remembers at which
-- meters that was, how much of which limit, and until when it counts; what is given back is that, under
-- whatever rules. Parsed:
--   { ends, { key of the meter, { id of the limit, amount, id, amount, … }, awaited }, … }
-- `awaited` is of the block of an agent: until when it waits for the call as its probe, 0 = it does not.
--
-- A meter of the batch is changed there. One that is not in the batch (its rule is gone since, or the call
-- is another by now) is changed in its stored value, if its key was declared; else that part ends by
-- itself. Without room left a pass stays what it is, the right to start: the call is decided beside the
-- claims of others then.
local Pass = {}
do
local text = Clock.text

-- Claims room at all meters of a call, also at limits that an override lifts.
local function claim(batch, call, slot)
  local ends = Claims.end_of(slot)
  local taken, part, of = { ends }, nil, nil
  local function part_of(meter)
    if of ~= meter then
      part, of = { KEYS[meter.first], {}, 0 }, meter
      taken[#taken + 1] = part
    end
    return part
  end
  Decide.each_limit(batch, call, function(meter, _, cost, limit)
    if cost <= 0 then return end
    local amounts = part_of(meter)[2]
    amounts[#amounts + 1], amounts[#amounts + 2] = limit.id, cost
    Claims.add(meter, limit.id, cost, ends)
  end)
  local block = Upstream.of(batch, call)
  local awaited = block and Upstream.claim(block, ends) or 0
  if awaited > 0 then part_of(block)[3] = awaited end
  return taken
end

-- What is claimed for a call: nil where nothing is, or it counts no longer.
function Pass.claims(record, now)
  local claims = record.claims
  return claims and claims[1] > now and claims or nil
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
  local claims = Pass.claims(record, now)
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
local function give_back_stored(key, amounts, ends)
  local value = redis.call('GET', key)
  if not value or string.byte(value) ~= Rule.EXTENDED then return end
  local parts, holds = { PackedMeter.head(struct.unpack('<d', value, 2)) }, false
  PackedMeter.each_entry(value, function(id, used, debt, flag, list)
    local of_claims = id == Claims.ENTRY
    for i = 1, of_claims and list and #amounts or 0, 2 do
      if amounts[i] == used then Claims.remove(list, ends, amounts[i + 1]) end
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
  local claims = Pass.claims(record, now)
  record.claims = nil
  for i = 2, claims and #claims or 0 do
    local key, amounts, awaited = unpack(claims[i])
    local meter = meter_of(batch, call, key)
    if meter then
      for at = 1, #amounts, 2 do
        Claims.take_off(meter, amounts[at], amounts[at + 1], claims[1])
      end
      if awaited > 0 then Upstream.unclaim(meter, awaited) end
    elseif Batch.declares(batch, key) then
      give_back_stored(key, amounts, claims[1])
    end
  end
end

-- Gives a call the right to start from a slot on, at its place in the order. Its record is kept with it.
-- @param claims whether room is kept for it
-- @param look when to look after it, if it has not started by then
function Pass.give(batch, call, record, slot, claims, look)
  local now = batch.now
  record.slot, record.granted = slot, now
  record.claims = claims and claim(batch, call, slot) or nil
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

function Pass.give_up(batch, call, record, now)
  Pass.give_back(batch, call, record, now)
  redis.call('ZREM', KEYS[FIXED.PASSES], call[CALL_ID])
end
end
