--[[
  Looks after passes that have not started. The client says what it saw of each job in BullMQ; the
  record decides whether that still matters.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON
  ARGV[3…]    per call what was seen: 'queued' (promoted, waits for a worker), 'held' (a worker has
              it), 'missing' (no such job, or not yet)

  Reply       per call: 'kept', 'unclaimed' (its room went back, its right to start stays), 'dropped'
              (it has no job that could start it), 'gone' (started or left)
  Cost        one MGET, two writes per call, one SET per meter that changes
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)

-- A meter that only holds claims is forgotten after a while: kept claims are written again.
local function renew_claims(call)
  for position = CALL_METERS, #call do
    batch.meters[call[position]].changed = true
  end
end

local function keep(call, record, after)
  if record.claims then renew_claims(call) end
  redis.call('ZADD', KEYS[FIXED.PASSES], Clock.text(now + after), call[CALL_ID])
  return 'kept'
end

local function give_back(call, record)
  if record.claims then
    Decide.unclaim(batch, call)
    Line.stir_all(batch, call, now)
  end
end

local function reconcile(call, seen)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'P' then
    redis.call('ZREM', KEYS[FIXED.PASSES], call[CALL_ID])
    return 'gone'
  end
  local late = now - math.max(record.granted, record.slot)
  if seen == 'missing' and late > PASS_GRACE_MS then
    give_back(call, record)
    Batch.drop_record(batch, call)
    redis.call('ZREM', KEYS[FIXED.PASSES], call[CALL_ID])
    return 'dropped'
  elseif seen == 'held' and late > PASS_CHECK_MS and record.claims then
    -- Its worker neither starts it nor gives it up: the worker is stuck or dead.
    give_back(call, record)
    record.claims = false
    Record.save_passed(call[CALL_RECORD_KEY], record)
    keep(call, record, PASS_CHECK_MS)
    return 'unclaimed'
  end
  return keep(call, record, seen == 'missing' and PASS_CHECK_MS / 20 or PASS_CHECK_MS)
end

local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = reconcile(call, ARGV[2 + i])
end
Batch.save(batch)
return reply
