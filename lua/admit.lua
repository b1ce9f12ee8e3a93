--[[
  Settles calls that have ended, then decides on the calls of a batch, one after the
  other: each starts, is promised room, stands in line or is refused, under all its
  meters at once or none.

  KEYS[1..7]  lines, passes, sequence, queued, wake, figures, deadlines (see lib/line.lua)
  KEYS[8…]    per meter: state, line, and one for each limit that has a key of its own (the
              leases of a concurrency, a sliding log); per call: its record; per batch its ledger
  ARGV[1]     now in ms, '' for Redis' clock (given in tests and simulations only)
  ARGV[2]     the batch as JSON (see lib/batch.lua)
  ARGV[3]     mode: 'direct'  charge now or refuse, never stand in line
                    'record'  charge what has happened already, room or not
                    'front'   promise room (a pass) or stand in line: before the job is added
                    'start'   charge now, hold or stand in line: in the worker
  ARGV[4]     lookahead in ms: how long before its room a call may be woken
  ARGV[5]     hold in ms: how long a woken call may be kept in its worker
  ARGV[6]     pass check in ms: when to look after a pass that has not started
  ARGV[7…]    per call: the call as JSON, kept beside its place in line. In mode start it
              may be left out: a newcomer that has to stand in line is answered 'again'

  Reply       packed doubles, see lib/reply.lua
  Cost        one MGET, one SET per meter that changes, one SET per call; a refusal writes nothing
]]
--- @include "lib/core.lua"
--- @include "lib/reply.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local mode, lookahead, hold_max, pass_check = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local reply = new_reply(now, batch)
if not batch then
  return pack_reply(reply)
end

-- Room that must stay free for those who stand in line and those already woken.
local function queued_and_claimed(meter, n, limit)
  if limit.leased or line_of(meter) == 0 then
    -- Slots turn over; how many wait says nothing about when one is free.
    return meter.claimed[n]
  end
  return meter.claimed[n] + queued_cost(meter, limit[LIMIT_UNIT]) * (meter.share_ahead or 1)
end

-- A newcomer stands behind the first of its lines that is not empty.
local function line_ahead(call)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if line_of(meter) > 0 then
      return { meter = meter, at = position - CALL_METERS + 1, n = 1, limit = meter.rule[3][1],
        priority = meter.rule[1], strictness = strictness_of(call, meter.rule) }
    end
  end
end

local function refuse(call, wait, binding)
  if wait == -1 then
    return add_reply(reply, call, binding.limit[LIMIT_CAPACITY] == 0 and CLOSED or TOO_BIG, wait, binding)
  end
  add_reply(reply, call, REJECT, max(wait, 1), binding, nil, binding.strictness)
end

local function expire(call)
  drop_record(batch, call)
  add_reply(reply, call, EXPIRED, 0, nil)
end

-- The shorter of two waits, of which 0 is the longest.
local function shorter(one, other)
  return one > 0 and other > 0 and min(one, other) or max(one, other)
end

local function is_unknown(binding)
  return upstream.is_unknown(binding.meter, binding.limit)
end

-- Whether it is known already that a call would start after its deadline.
local function starts_late(wait, binding, deadline)
  return deadline > 0 and now + wait > deadline and not is_unknown(binding)
end

-- How long a call will wait at a place in the line of a meter.
local function weigh_in_line(call, meter, place)
  local length = line_of(meter)
  if length > 0 then
    meter.share_ahead = redis.call('ZCOUNT', line_key_of(meter), '-inf', '(' .. text(place)) / length
  end
  local wait, latest = weigh(batch, call, now, queued_and_claimed)
  meter.share_ahead = nil
  return wait, latest
end

local function stand(call, binding, place, moves, deadline, wait, latest)
  local rank = join_line(call, binding.meter, place, moves, deadline, wait, now, lookahead)
  -- Only now: a batch that came without lines has none to look at.
  batch.any_line = true
  add_reply(reply, call, WAIT, wait, latest or binding, rank)
end

-- One that was in line before keeps its place.
local function stand_again(call, binding)
  local record = call[CALL_PARSED]
  local wait, latest = weigh_in_line(call, binding.meter, record.place)
  stand(call, binding, record.place, record.moves, record.deadline, wait, latest)
end

-- A newcomer gets a place, but where the line is full, or where it would start too late.
-- @param behind how long those before it wait, where it has room itself
local function stand_new(call, binding, deciding, behind)
  if call[CALL_JSON] == '' then
    return add_reply(reply, call, AGAIN, 0, nil)
  end
  local rule, length = binding.meter.rule, line_of(binding.meter)
  if rule.max_waiting > 0 and length >= rule.max_waiting then
    return add_reply(reply, call, FULL, 0, binding, length)
  end
  local wait, latest = weigh_in_line(call, binding.meter, place_now(call[CALL_PRIORITY], now))
  if not latest and behind then
    wait = max(wait, behind)
  end
  local longest = shorter(rule.max_wait, deciding.meter.rule.max_wait)
  if rule.pauses or rule.blocks then
    -- They have no bound of their own.
    for position = CALL_METERS, #call do
      longest = shorter(longest, batch.meters[call[position]].rule.max_wait)
    end
  end
  local deadline = deadline_of(call, now, longest)
  if starts_late(wait, latest or binding, deadline) then
    return add_reply(reply, call, LATE, wait, latest or binding)
  end
  stand(call, binding, next_place(call[CALL_PRIORITY], false, now), 0, deadline, wait, latest)
end

-- A right to start from a slot on, for which room is claimed.
local function promise(call, slot, deadline)
  claim(batch, call)
  save_passed(call[CALL_RECORD_KEY], {
    place = next_place(call[CALL_PRIORITY], false, now), moves = 0, deadline = deadline, slot = slot, granted = now, claims = true, call = call[CALL_JSON],
  })
  redis.call('ZADD', KEYS[2], text(slot + pass_check), call[CALL_ID])
end

-- Slowed: for a short while in its worker, for longer in line, and not for too long.
local function slow(call, wait, binding, deciding, before)
  local rule, known = deciding.meter.rule, not is_unknown(binding)
  if known and rule.max_delay > 0 and wait > rule.max_delay and batch.any_line and call[CALL_PRIORITY] ~= 0 then
    -- Not all who wait go before it.
    local latest
    wait, latest = weigh_in_line(call, binding.meter, place_now(call[CALL_PRIORITY], now))
    binding = latest or binding
  end
  if known and rule.max_delay > 0 and wait > rule.max_delay then
    return refuse(call, wait, deciding)
  end
  if not known or before or wait > rule.hold then
    return stand_new(call, binding, deciding, before and wait)
  end
  if call[CALL_JSON] == '' then
    return add_reply(reply, call, AGAIN, 0, nil)
  end
  local deadline = deadline_of(call, now, rule.max_wait)
  if starts_late(wait, binding, deadline) then
    return add_reply(reply, call, LATE, wait, binding)
  end
  promise(call, now + wait, deadline)
  add_reply(reply, call, mode == 'front' and SLOWED or HOLD, wait, binding)
end

-- The verdict on a call that has no pass and stands in no line.
local function decide_newcomer(call)
  local wait, binding, deciding = weigh(batch, call, now, batch.any_line and queued_and_claimed or nil)
  if wait == -1 then
    return refuse(call, wait, binding)
  end
  if mode ~= 'direct' and call.deadline and call.deadline > 0 and call.deadline <= now then
    return add_reply(reply, call, EXPIRED, 0, nil)
  end
  local before = batch.any_line and line_ahead(call)
  if before and not binding then
    binding, deciding = before, before
    -- It has room, but not before those who wait for something else of that rule.
    wait = max(1, (tonumber(redis.call('ZSCORE', KEYS[1], line_key_of(before.meter)) or now) or now) + lookahead - now)
  end
  if not binding then
    if mode == 'front' then
      promise(call, now, deadline_of(call, now, 0))
    else
      start(batch, call, now)
    end
    return add_reply(reply, call, mode == 'front' and RUN or upstream.running(batch, call), 0, nil)
  end
  if mode == 'direct' then
    return add_reply(reply, call, REFUSED, wait, binding)
  end
  if deciding.strictness > STRICTNESS_THROTTLE then
    return refuse(call, wait, deciding)
  elseif deciding.strictness == STRICTNESS_THROTTLE then
    return slow(call, wait, binding, deciding, before)
  end
  return stand_new(call, binding, deciding, before and wait)
end

-- A woken call starts on its own claim, in the order of the slots that were promised.
local function start_passed(call)
  local record = call[CALL_PARSED]
  if record.deadline > 0 and record.deadline <= now then
    if record.claims then
      unclaim(batch, call)
      if batch.any_line then
        stir_all(batch, call, now)
      end
    end
    redis.call('ZREM', KEYS[2], call[CALL_ID])
    return expire(call)
  end
  local wait, binding, deciding = weigh(batch, call, now, function(meter, n)
    return (meter.behind and meter.behind[n] or 0) + (record.claims and 0 or meter.claimed[n])
  end)
  wait = wait >= 0 and math.max(wait, record.slot - now) or wait
  if wait == 0 then
    if record.claims then
      unclaim(batch, call)
    end
    redis.call('ZREM', KEYS[2], call[CALL_ID])
    start(batch, call, now)
    return add_reply(reply, call, upstream.running(batch, call), 0, nil)
  end
  if wait > 0 and wait <= hold_max then
    if not record.claims then
      record.claims = true
      claim(batch, call)
      save_passed(call[CALL_RECORD_KEY], record)
    end
    each_limit(batch, call, add_behind)
    return add_reply(reply, call, HOLD, wait, binding)
  end
  if not batch.lines then
    -- It may have to stand in one.
    return add_reply(reply, call, AGAIN, 0, nil)
  end
  if record.claims then
    unclaim(batch, call)
  end
  redis.call('ZREM', KEYS[2], call[CALL_ID])
  if batch.any_line then
    stir_all(batch, call, now)
  end
  if wait == -1 or deciding and deciding.strictness == STRICTNESS_HARD then
    drop_record(batch, call)
    return refuse(call, wait, wait == -1 and binding or deciding)
  end
  if not binding then
    -- Only its slot is far ahead (it holds several meters for a crossing): keep the promise.
    claim(batch, call)
    redis.call('ZADD', KEYS[2], text(record.slot - lookahead), call[CALL_ID])
    return add_reply(reply, call, WAIT, wait, nil, 0)
  end
  return stand_again(call, binding)
end

-- The line a waiting call stands in, if it is one of its meters still.
local function own_line(call)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if line_key_of(meter) == call[CALL_PARSED].line then
      return meter, redis.call('ZRANK', line_key_of(meter), call[CALL_ID])
    end
  end
end

-- A call that comes from BullMQ while it stands in line: nobody woke it (a drainer
-- died, an estimate was short). The first of its line may start, the others go back.
local function start_waiting(call)
  if not batch.lines then
    return add_reply(reply, call, AGAIN, 0, nil)
  end
  local record = call[CALL_PARSED]
  local own, rank = own_line(call)
  if record.deadline > 0 and record.deadline <= now then
    redis.call('ZREM', KEYS[7], call[CALL_ID])
    if rank then
      leave_line(line_key_of(own), call)
      own.line_length = nil
    end
    return expire(call)
  end
  if not rank then
    -- Its line is gone with its rule: it queues anew, at its old place.
    local wait, binding, deciding = weigh(batch, call, now)
    if wait == 0 then
      start(batch, call, now)
      return add_reply(reply, call, upstream.running(batch, call), 0, nil)
    elseif wait == -1 or deciding.strictness == STRICTNESS_HARD then
      drop_record(batch, call)
      return refuse(call, wait, wait == -1 and binding or deciding)
    end
    return stand_again(call, binding)
  end
  own.share_ahead = rank / line_of(own)
  local wait, binding, deciding = weigh(batch, call, now, queued_and_claimed)
  own.share_ahead = nil
  if wait == -1 or (deciding and deciding.strictness == STRICTNESS_HARD) then
    leave_line(line_key_of(own), call)
    own.line_length = nil
    drop_record(batch, call)
    return refuse(call, wait, wait == -1 and binding or deciding)
  end
  if rank == 0 and wait == 0 then
    leave_line(line_key_of(own), call)
    own.line_length = nil
    start(batch, call, now)
    return add_reply(reply, call, upstream.running(batch, call), 0, nil)
  end
  redis.call('ZADD', KEYS[1], 'LT', text(now + wait), line_key_of(own))
  return add_reply(reply, call, WAIT, wait, binding, rank)
end

-- A call that its dead worker had started still holds its slot; it is the same call's now.
local function take_over_slots(call)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if meter.rule.leased then
      for n, limit in ipairs(meter.rule[3]) do
        if limit.leased then
          refund(meter, n, limit, 1, now, now, call[CALL_ID])
        end
      end
    end
  end
end

-- What has happened is charged in full, as an overrun is; said twice under one id it counts once.
local function record_made(call)
  each_limit(batch, call, function(meter, n, cost, limit)
    if cost > 0 and not limit.leased and n <= meter.rule.active then
      overrun(meter, n, limit, cost, now, now, charged_as(call, limit))
    end
  end)
  open_entry(batch, call, now)
  add_reply(reply, call, RUN, 0, nil)
end

-- A call that came twice in one batch finds what became of the first: its record was read before that.
local seen = {}

local function read_again(call)
  local key = call[CALL_RECORD_KEY]
  if key and seen[key] and not call[CALL_LEDGER_KEY] then
    local record = redis.call('GET', key)
    call[CALL_OWN_RECORD] = record
    call[CALL_PARSED] = record and parse_record(record)
  elseif key then
    seen[key] = true
  end
end

for _, call in ipairs(batch.ended) do
  settle_ended(batch, call, now)
end
for i, call in ipairs(batch.calls) do
  read_again(call)
  local record = call[CALL_PARSED]
  local state = record and record.state
  call[CALL_JSON] = record and record.call or ARGV[6 + i] or ''
  if state == 'S' then
    -- Answered before, and the reply was lost: it is charged once.
    add_reply(reply, call, upstream.running(batch, call), 0, nil)
  elseif mode == 'record' then
    record_made(call)
  elseif mode == 'start' then
    take_over_slots(call)
    if not state then
      decide_newcomer(call)
    elseif state == 'P' then
      start_passed(call)
    else
      start_waiting(call)
    end
  elseif not state then
    decide_newcomer(call)
  elseif state == 'W' then
    -- Sent twice by an app that saw no answer: the first answer stands.
    local _, rank = own_line(call)
    add_reply(reply, call, WAIT, 0, nil, rank or 0)
  else
    add_reply(reply, call, RUN, 0, nil)
  end
end

-- Packed before it is saved: what is saved of a concurrency is not how many run.
local packed = pack_reply(reply, batch)
save_changed(batch, now)
return packed
