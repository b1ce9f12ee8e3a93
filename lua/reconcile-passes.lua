--[[
  Looks after passes that have not started. The client says what it saw of each job in BullMQ; the
  record decides whether that still matters.

  KEYS        as in start.lua, and the meters that the passes have claims at
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON
  ARGV[3…]    per call what was seen: 'queued' (promoted, waits for a worker), 'held' (a worker has
              it), 'missing' (no such job, or not yet)

  Reply       per call: 'kept', 'unclaimed' (its room is claimed no longer, its right to start stays), 'dropped'
              (it has no job that could start it), 'gone' (started or left)
  Cost        one MGET, two writes per call, one SET per meter that changes
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)

-- A job that waits for a worker needs no look, one that is not there may be added yet.
local LOOK_AFTER_MS = { queued = PASS_GRACE_MS, held = PASS_CHECK_MS, missing = PASS_CHECK_MS / 5 }

local function look_again(call, at)
  redis.call('ZADD', KEYS[FIXED.PASSES], Clock.text(at), call[CALL_ID])
end

local function reconcile(call, seen)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'P' then
    redis.call('ZREM', KEYS[FIXED.PASSES], call[CALL_ID])
    return 'gone'
  end
  local late = now - math.max(record.granted, record.slot)
  if seen == 'missing' and late > PASS_GRACE_MS then
    Pass.give_up(batch, call, record, now)
    Line.stir_all(batch, call, now)
    Batch.drop_record(batch, call)
    return 'dropped'
  end
  local claims = record.claims
  local room_ends = claims and claims[1] > 0 and claims[1] or nil
  if room_ends and room_ends <= now then
    -- Its room is claimed no longer. The lines behind it may move, and need not have been due for that.
    Pass.keep_at_strict(record, now)
    Record.save_passed(call[CALL_RECORD_KEY], record)
    Line.stir_all(batch, call, now)
    look_again(call, now + LOOK_AFTER_MS[seen])
    return 'unclaimed'
  end
  local after = now + LOOK_AFTER_MS[seen]
  look_again(call, room_ends and math.min(room_ends, after) or after)
  return 'kept'
end

local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = reconcile(call, ARGV[2 + i])
end
Batch.save(batch)
return reply
