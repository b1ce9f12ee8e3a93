--[[
  Looks after passes that have not started. The client says what it saw of the job in
  BullMQ; the record decides whether that still matters.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON
  ARGV[3]     pass check in ms
  ARGV[4]     grace in ms: how long a job may be missing after its pass was granted
  ARGV[5…]    per call what was seen: 'queued' (promoted, waits for a worker), 'held' (a
              worker has it), 'missing' (no such job, or not yet)

  Reply       per call: 'kept', 'unclaimed' (its room went back, its right to start
              stays), 'dropped' (nobody will ever start it), 'gone' (started or left)
  Cost        one MGET, two writes per call, one SET per meter that changes
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local pass_check, grace = tonumber(ARGV[3]), tonumber(ARGV[4])

-- A meter that only holds claims is forgotten after a while: kept claims are written again.
local function renew_claims(call)
  for position = CALL_METERS, #call do
    batch.meters[call[position]].changed = true
  end
end

local function keep(call, after)
  if call[CALL_PARSED].claims then
    renew_claims(call)
  end
  redis.call('ZADD', KEYS[2], text(now + after), call[CALL_ID])
  return 'kept'
end

local function give_back(call)
  if call[CALL_PARSED].claims then
    unclaim(batch, call)
    stir_all(batch, call, now)
  end
end

local function tend(call, seen)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'P' then
    redis.call('ZREM', KEYS[2], call[CALL_ID])
    return 'gone'
  end
  local late = now - math.max(record.granted, record.slot)
  if seen == 'missing' and late > grace then
    give_back(call)
    drop_record(batch, call)
    redis.call('ZREM', KEYS[2], call[CALL_ID])
    return 'dropped'
  elseif seen == 'held' and late > pass_check then
    -- Its worker neither starts it nor gives it up: it is stuck or dead.
    give_back(call)
    record.claims = false
    save_passed(call[CALL_RECORD_KEY], record)
    keep(call, grace)
    return 'unclaimed'
  end
  return keep(call, seen == 'missing' and pass_check / 20 or pass_check)
end

local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = tend(call, ARGV[4 + i])
end
save_changed(batch, now)
return reply
