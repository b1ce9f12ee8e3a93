-- Lines: a sorted set of call ids per rule and scope value, by place. Fixed keys:
--   KEYS[1] lines    which lines there are, by the time the first of each can move
--   KEYS[2] passes   calls that were woken and have not started, by when to look after them
--   KEYS[3] sequence the next place
--   KEYS[4] queued   tokens that wait, per line (the requests are the line's length)
--   KEYS[5] wake     the channel on which drainers listen
local PRIORITY_STEP = 2 ^ 40
local SEQUENCE_TTL_MS = 30 * 86400000
-- Whoever was sent back by its agent goes before all who never started.
local RETURNED_BEFORE = 2 ^ 39

local function text(number)
  return string.format('%.17g', number)
end

local function next_place(priority, returned)
  local sequence = redis.call('INCR', KEYS[3])
  redis.call('PEXPIRE', KEYS[3], string.format('%.0f', SEQUENCE_TTL_MS))
  return sequence - priority * PRIORITY_STEP - (returned and RETURNED_BEFORE or 0)
end

local function line_of(meter)
  if meter.line_length == nil then
    meter.line_length = redis.call('ZCARD', meter.line_key)
  end
  return meter.line_length
end

local function queued_tokens(meter)
  if meter.tokens_queued == nil then
    meter.tokens_queued = tonumber(redis.call('HGET', KEYS[4], meter.line_key) or 0)
  end
  return meter.tokens_queued
end

local function add_queued(line_key, tokens)
  if tokens ~= 0 then
    redis.call('HINCRBYFLOAT', KEYS[4], line_key, text(tokens))
    redis.call('PEXPIRE', KEYS[4], string.format('%.0f', SEQUENCE_TTL_MS))
  end
end

-- Puts the call into the line of a meter; the first of a line sets when to look at it.
local function join_line(call, meter, place, moves, wait, now, lookahead)
  redis.call('ZADD', meter.line_key, text(place), call[CALL_ID])
  save_waiting(call[CALL_RECORD_KEY], place, moves, meter.line_key, call[CALL_JSON], wait)
  add_queued(meter.line_key, call[CALL_TOKENS])
  meter.line_length = line_of(meter) + 1
  if meter.tokens_queued then
    meter.tokens_queued = meter.tokens_queued + call[CALL_TOKENS]
  end
  local rank = meter.line_length == 1 and 0 or redis.call('ZRANK', meter.line_key, call[CALL_ID])
  if rank == 0 then
    local due = text(math.max(now, now + wait - lookahead))
    if redis.call('ZADD', KEYS[1], 'LT', 'CH', due, meter.line_key) == 1 then
      redis.call('PUBLISH', KEYS[5], due)
    end
  end
  return rank
end

local function leave_line(line_key, id, tokens)
  if redis.call('ZREM', line_key, id) == 1 then
    if redis.call('EXISTS', line_key) == 0 then
      redis.call('ZREM', KEYS[1], line_key)
      redis.call('HDEL', KEYS[4], line_key)
    else
      add_queued(line_key, -tokens)
    end
  end
end

-- Room came back at this meter: whoever waits there is looked at now.
local function stir(meter, now)
  if redis.call('EXISTS', meter.line_key) == 1 then
    if redis.call('ZADD', KEYS[1], 'LT', 'CH', text(now), meter.line_key) == 1 then
      redis.call('PUBLISH', KEYS[5], text(now))
    end
  end
end
