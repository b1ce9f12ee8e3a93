--[[
  Wakes the calls at the front of lines, as many as there is room for within the
  lookahead: each gets a pass that claims its room on all its meters until it starts.
  Any number of drainers may run it at once; what one has woken the next finds gone.

  A call that another meter refuses moves to that one's line, with its place. Two busy
  meters could send it to and fro for ever; so whoever has moved may take its room at
  the other meter further ahead of time, and after a few moves as far ahead as it is.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON: the calls of one line after the other, each in order
  ARGV[3]     lookahead in ms
  ARGV[4]     pass check in ms: when to look after a pass that has not started
  ARGV[5]     per line as JSON: [key index of the line, its meter in the batch or 0 (its
              rule is gone), number of its calls in the batch]
  ARGV[6…]    per call: the call as JSON

  Reply       { now, ids woken, ms until the
              earliest line can move or -1 }
  Cost        one MGET, one SET per meter that changes, three writes per woken call
]]
--- @include "lib/core.lua"

local CROSSING_LOOKAHEAD_MS = 1000
local MOVES_BEFORE_ANY_SLOT = 3

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local lookahead, pass_check = tonumber(ARGV[3]), tonumber(ARGV[4])
local woken = {}

local function claimed_and_behind(meter, n)
  return meter.claimed[n] + (meter.behind and meter.behind[n] or 0)
end

-- How far ahead of its slot this call may be woken, as its other meters are concerned.
local function reach(record)
  if record.moves >= MOVES_BEFORE_ANY_SLOT then
    return math.huge
  end
  return record.moves > 0 and CROSSING_LOOKAHEAD_MS or lookahead
end

local function wake(call, line_key, wait)
  local record = call[CALL_PARSED]
  leave_line(line_key, call)
  claim(batch, call)
  record.slot, record.granted, record.claims = now + math.max(0, wait), now, true
  save_passed(call[CALL_RECORD_KEY], record)
  if wait <= lookahead then
    redis.call('ZADD', KEYS[2], text(now + pass_check), call[CALL_ID])
    woken[#woken + 1] = call[CALL_ID]
  else
    redis.call('ZADD', KEYS[2], text(record.slot - lookahead), call[CALL_ID])
  end
end

-- The longest wait at the line's own meter, and at the others; and the one of the others
-- that has no slot free, if there is one.
local function waits(call, own)
  local here, there, elsewhere, full = 0, 0, nil, nil
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    for n = 1, upstream.limits_asked(meter) do
      local limit = meter.rule[3][n]
      local cost = call[CALL_COST + limit[LIMIT_UNIT]]
      if cost > limit[LIMIT_CAPACITY] + limit.slack and not limit.takes_any then
        return -1, -1
      end
      if cost > 0 or limit.algorithm.no_cost then
        local wait = limit.algorithm.wait(limit, meter.kept[meter.rule.offset + n], meter.debt[n], now, cost, claimed_and_behind(meter, n), meter.histories[n])
        if wait > 0 and (limit.leased or limit.algorithm.no_end) then
          -- A slot may come back before its lease ends, and may not when it ends, as a pause may: never ahead.
          wait = max(wait, lookahead + 1)
          full = meter ~= own and meter or full
        end
        if meter == own then
          here = max(here, wait)
        elseif wait > there then
          there, elsewhere = wait, meter
        end
      end
    end
  end
  return here, there, full or elsewhere, full ~= nil
end

-- Returns the wait of the line's first call, nil once it was dealt with.
local function advance(call, own, line_key)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'W' or record.line ~= line_key then
    redis.call('ZREM', line_key, call[CALL_ID])
    return nil
  end
  local here, there, elsewhere, full = waits(call, own)
  if here == -1 then
    -- It can never pass under the rules as they are now: the worker says so.
    wake(call, line_key, 0)
    return nil
  end
  if here > lookahead then
    return here
  end
  if not full and there <= reach(record) then
    wake(call, line_key, math.max(here, there))
    return nil
  end
  if own then
    for n, limit in ipairs(own.rule[3]) do
      add_behind(own, n, call[CALL_COST + limit[LIMIT_UNIT]])
    end
  end
  leave_line(line_key, call)
  join_line(call, elsewhere, record.place, record.moves + 1, record.deadline, there, now, lookahead)
  return nil
end

local cursor = 0
for _, line in ipairs(cjson.decode(ARGV[5])) do
  local line_key, own = KEYS[line[1]], batch.meters[line[2]]
  local wait = nil
  for i = cursor + 1, cursor + line[3] do
    local call = batch.calls[i]
    call[CALL_JSON] = ARGV[5 + i]
    wait = wait or advance(call, own, line_key)
  end
  cursor = cursor + line[3]
  if redis.call('EXISTS', line_key) == 0 then
    redis.call('ZREM', KEYS[1], line_key)
    redis.call('HDEL', KEYS[4], line_key)
  elseif wait then
    redis.call('ZADD', KEYS[1], text(now + math.max(1, wait - lookahead)), line_key)
  else
    redis.call('ZADD', KEYS[1], text(now), line_key)
  end
end

save_changed(batch, now)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return { text(now), woken, first[2] and text(math.max(0, tonumber(first[2]) - now)) or '-1' }
