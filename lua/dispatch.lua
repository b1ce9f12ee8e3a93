--[[
  Wakes the calls at the front of lines, as many as there is room for within the lookahead: each gets a
  pass that claims its room on all its meters until it starts. Any number of dispatchers may run it at
  once; a call that one has woken the next finds gone.

  A call that another meter refuses moves to that one's line, with its place. Two busy meters could send
  it to and fro for ever; so a call that has moved may take its room at the other meter further ahead of
  time, and after a few moves as far ahead as it is.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON: the calls of one line after the other, each in order
  ARGV[3]     per line as JSON: [key index of the line, its meter in the batch or 0 (its rule is gone),
              number of its calls in the batch, 1 if it is the line of one call that its agent has refused, whose
              call is looked at when the line is due and not before]
  ARGV[4…]    per call: the call as JSON

  Reply       { now, ids woken, ms until the earliest line can move or -1 }
  Cost        one MGET, one SET per meter that changes, three writes per woken call
]]
--- @include "lib/core.lua"

local CROSSING_LOOKAHEAD_MS = 1000
local MOVES_BEFORE_ANY_SLOT = 3
local text = Clock.text

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local woken = {}

-- How far ahead of its slot a call may be woken, as its other meters are concerned.
local function reach(record)
  if record.moves >= MOVES_BEFORE_ANY_SLOT then return math.huge end
  return record.moves > 0 and CROSSING_LOOKAHEAD_MS or LOOKAHEAD_MS
end

local function wake(call, line_key, wait)
  local record = call[CALL_PARSED]
  Line.leave(line_key, call)
  Decide.claim(batch, call)
  record.slot, record.granted, record.claims = now + math.max(0, wait), now, true
  Record.save_passed(call[CALL_RECORD_KEY], record)
  if wait <= LOOKAHEAD_MS then
    redis.call('ZADD', KEYS[FIXED.PASSES], text(now + PASS_CHECK_MS), call[CALL_ID])
    woken[#woken + 1] = call[CALL_ID]
  else
    redis.call('ZADD', KEYS[FIXED.PASSES], text(record.slot - LOOKAHEAD_MS), call[CALL_ID])
  end
end

-- Gathers the longest wait at the line's own meter and at the others; which of the others that is;
-- and one of the others of which it is not known when it has room (a slot, a pause).
local function here_and_elsewhere(own)
  local waits = { here = 0, there = 0, elsewhere = nil, full = nil }
  return waits, function(_, call, meter, at, n, wait)
    local binding = Decide.binding(call, meter, at, n, now)
    if binding.leased or binding.paused then
      -- A slot may come back before its lease ends, and may not when it ends, as a pause may: a call
      -- is never woken ahead of that.
      wait = math.max(wait, LOOKAHEAD_MS + 1)
      waits.full = meter ~= own and meter or waits.full
    end
    if meter == own then
      waits.here = math.max(waits.here, wait)
    elseif wait > waits.there then
      waits.there, waits.elsewhere = wait, meter
    end
    return waits
  end
end

-- Returns the wait of the line's first call, nil once the call was dealt with.
local function advance(call, own, line_key)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'W' or record.line ~= line_key then
    redis.call('ZREM', line_key, call[CALL_ID])
    return nil
  end
  local waits, gather = here_and_elsewhere(own)
  local found = Decide.weigh(batch, call, now, Decide.BEHIND, gather)
  if found and found.wait == -1 then
    -- It can never pass under the rules as they are now: its worker finds that and says so.
    wake(call, line_key, 0)
    return nil
  end
  if waits.here > LOOKAHEAD_MS then return waits.here end
  if not waits.full and waits.there <= reach(record) then
    wake(call, line_key, math.max(waits.here, waits.there))
    return nil
  end
  if own then
    for n, limit in ipairs(own.rule.limits) do
      Decide.add_behind(own, n, call[limit.cost_at])
    end
  end
  Line.leave(line_key, call)
  Line.join(call, waits.full or waits.elsewhere, record.place, record.moves + 1, record.deadline, waits.there, now)
  return nil
end

local cursor = 0
for _, line in ipairs(cjson.decode(ARGV[3])) do
  local line_key, own = KEYS[line[1]], batch.meters[line[2]]
  local due_in = line[4] == 1 and Line.due_in(line_key, now) or 0
  local wait = due_in > 0 and due_in + LOOKAHEAD_MS or nil
  for i = cursor + 1, cursor + line[3] do
    local call = batch.calls[i]
    call[CALL_JSON] = ARGV[3 + i]
    wait = wait or advance(call, own, line_key)
  end
  cursor = cursor + line[3]
  if redis.call('EXISTS', line_key) == 0 then
    redis.call('ZREM', KEYS[FIXED.LINES], line_key)
    redis.call('HDEL', KEYS[FIXED.QUEUED], line_key)
  elseif wait then
    redis.call('ZADD', KEYS[FIXED.LINES], text(now + math.max(1, wait - LOOKAHEAD_MS)), line_key)
  else
    redis.call('ZADD', KEYS[FIXED.LINES], text(now), line_key)
  end
end

Batch.save(batch)
local first = redis.call('ZRANGE', KEYS[FIXED.LINES], 0, 0, 'WITHSCORES')
return { text(now), woken, first[2] and text(math.max(0, tonumber(first[2]) - now)) or '-1' }
