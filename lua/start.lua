--[[
  Settles calls that have ended, then decides in the worker on calls that are to start, one after the
  other: each is charged and starts, is held for a moment, stands in line or is refused, under all its
  meters at once or none.

  KEYS[1..8]  lines, passes, sequence, queued, wake, figures, deadlines, pulse (lib/line.lua,
              lib/figures.lua, lib/pulse.lua)
  KEYS[9…]    per meter: state, one for each limit that has a key of its own (the leases of a
              concurrency, a sliding log), line; per call: its record, and the lock of its
              job; per batch: its ledger
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua
  ARGV[3…]    per call: the call as JSON, kept beside its place in line. May be left out: a call that has
              to stand in line, or holds something that is none of its meters, is then answered AGAIN.
              Where it is there, so are the keys of what the call holds: meters, and its line

  Reply       packed doubles, see lib/reply.lua
  Cost        one MGET, one SET per meter that changes, one or two SETs per batch; a refusal writes nothing

  A worker numbers its batches (`sender` in the batch). One that comes after a later one of the same worker, or
  twice, may be a late copy whose calls nobody waits for: it starts nothing and moves nothing. Calls that it had
  started are answered as they were, and all others AGAIN: if a worker waits for them, it sends a new batch.
]]
--- @include "lib/core.lua"
--- @include "lib/newcomer.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)
batch.reply = reply

local door = {
  held = OUTCOME.HOLD,
  claims = true,
  admit = function(_, call)
    Reply.add(reply, Decide.start(batch, call, now))
  end,
}

local function is_late(record)
  return record.deadline > 0 and record.deadline <= now
end

local function is_refused(verdict)
  return verdict and (verdict.wait == -1 or Decide.is_strict(verdict.deciding))
end

local function give_up_pass(call, record)
  local claimed = Pass.holds(record, now)
  Pass.give_up(batch, call, record, now)
  if claimed and batch.any_line then Line.stir_all(batch, call, now) end
end

-- A call that waits for less than a worker may hold it keeps its pass, on a claim.
local function hold(call, record, wait, binding)
  local claims = Pass.claims(record, now)
  if not claims or claims[1] < now + wait + CLAIM_STEP_MS then Pass.claim(batch, call, record, now + wait) end
  Decide.each_limit(batch, call, Decide.add_behind)
  return Reply.add(reply, OUTCOME.HOLD, wait, binding)
end

-- A woken call starts on its own claim, in the order of the slots that were promised. One that claimed
-- room under other rules, or as another call, or longer ago than claims last, starts beside the claims of
-- others.
-- @param complete whether the call came with all that it takes to stand in line, or to leave one
local function start_passed(call, record, complete)
  local claimed, covered = Pass.claims(record, now), Pass.covers(batch, call, record, now)
  if not complete and (claimed and not covered or not Pass.in_reach(batch, call, record, now)) then
    return Reply.add(reply, OUTCOME.AGAIN)
  end
  if is_late(record) then
    give_up_pass(call, record)
    return Newcomer.expire(batch, call)
  end
  if claimed and not covered then Pass.give_back(batch, call, record, now) end
  local verdict = Decide.weigh(batch, call, now, covered and Decide.OWN_CLAIM or Decide.CLAIMED)
  local wait = verdict and verdict.wait or 0
  wait = wait >= 0 and math.max(wait, record.slot - now) or wait
  if wait == 0 then
    Pass.give_up(batch, call, record, now)
    return Reply.add(reply, Decide.start(batch, call, now))
  end
  -- When a slot, the end of a pause or a probe comes is not known: a call that is held for it could keep a
  -- worker's place from others for ever.
  local is_known = not verdict or not verdict.binding.unknown
  if is_known and wait > 0 and wait <= HOLD_MAX_MS then return hold(call, record, wait, verdict and verdict.binding) end
  if not verdict then
    -- Only its slot is far ahead (it holds several meters for a crossing): the promise is kept.
    if not covered then Pass.claim(batch, call, record, record.slot) end
    redis.call('ZADD', KEYS[FIXED.PASSES], Clock.text(record.slot - LOOKAHEAD_MS), call[CALL_ID])
    return Reply.add(reply, OUTCOME.WAIT, wait, nil, 0)
  end
  if is_refused(verdict) then
    give_up_pass(call, record)
    Batch.drop_record(batch, call)
    verdict.wait = wait
    return Newcomer.refuse(batch, verdict)
  end
  if not complete then return Reply.add(reply, OUTCOME.AGAIN) end
  give_up_pass(call, record)
  return Newcomer.stand_again(batch, call, now, verdict.standing)
end

local function leave(call, own)
  local line_key = call[CALL_PARSED].line
  Pass.give_back(batch, call, call[CALL_PARSED], now)
  if Batch.declares(batch, line_key) then Line.leave(batch, line_key, call) end
  if own then own.line_length = nil end
end

local function refuse_or_start(call, verdict)
  if not verdict then return Reply.add(reply, Decide.start(batch, call, now)) end
  Batch.drop_record(batch, call)
  return Newcomer.refuse(batch, verdict)
end

-- A call that comes from BullMQ while it stands in line: it was not woken (a dispatcher died, an
-- estimate was short). The first of its line may start, the others go back.
local function start_waiting(call, record, complete)
  local own, rank = Line.own(batch, call)
  if not complete and not (own and Pass.in_reach(batch, call, record, now)) then return Reply.add(reply, OUTCOME.AGAIN) end
  if is_late(record) then
    redis.call('ZREM', KEYS[FIXED.DEADLINES], call[CALL_ID])
    leave(call, own)
    return Newcomer.expire(batch, call)
  end
  if not rank then
    -- The meter of its line is none of its own any more: it queues anew, at its old place.
    leave(call, own)
    local verdict = Decide.weigh(batch, call, now, Decide.CLAIMED)
    if not verdict or is_refused(verdict) then return refuse_or_start(call, verdict) end
    return Newcomer.stand_again(batch, call, now, verdict.standing)
  end
  own.share_ahead = rank / Line.length(own)
  local verdict = Decide.weigh(batch, call, now, Decide.QUEUED)
  own.share_ahead = nil
  if is_refused(verdict) or (rank == 0 and not verdict) then
    leave(call, own)
    return refuse_or_start(call, verdict)
  end
  local wait = verdict and verdict.wait or 0
  redis.call('ZADD', KEYS[FIXED.LINES], 'LT', Clock.text(now + wait), Line.key(own))
  return Reply.add(reply, OUTCOME.WAIT, wait, verdict and verdict.binding, rank)
end

local is_copy = Batch.is_late_copy(batch.sender)
for _, call in ipairs(batch.ended) do
  Settlement.finish(batch, call, now)
end
for i, call in ipairs(batch.calls) do
  Batch.read_again(batch, call)
  local record = call[CALL_PARSED]
  local state = record and record.state
  local complete = ARGV[2 + i] ~= nil
  call[CALL_JSON] = ARGV[2 + i] or record and record.call or ''
  if call.lost then
    -- Another worker has its job by now, or will have it: that one starts it. If this start was answered
    -- before, and the reply was lost, its worker gives the charge back.
    Reply.add(reply, OUTCOME.LOST)
  elseif state == 'S' then
    -- Answered before, and the reply was lost: it is charged once.
    Reply.add(reply, Decide.running(batch, call))
  elseif is_copy then
    Reply.add(reply, OUTCOME.AGAIN)
  elseif state == 'P' then
    start_passed(call, record, complete)
  elseif state == 'W' then
    start_waiting(call, record, complete)
  else
    Newcomer.decide(batch, call, now, door)
  end
end

return Reply.save(reply, batch)
