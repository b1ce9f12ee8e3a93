-- Line: the calls that wait at one meter, a sorted set of call ids by place. The keys that all lines
-- share (FIXED in the protocol):
--   lines      which lines there are, by the time the first call of each can move
--   passes     calls that were woken and have not started, by when to look after them
--   sequence   when the last call arrived that got a place
--   queued     what waiting calls will charge each meter, in sums (lib/backlog.lua)
--   wake       the channel on which dispatchers listen
--   deadlines  calls in a line that wait until a time at most, by that time
--
-- A place is a time in ms: that of the arrival, and for each step of priority as much earlier as a
-- call has to wait to be worth a step. So no call is overtaken for ever.
local Line = {}
do
local max, min = math.max, math.min
local text = Clock.text
local AGEING_MS = 60000
-- No two calls share a place, however many arrive at once.
local APART_MS = 2 ^ -10
local PLACES_TTL = string.format('%.0f', 86400000)
-- A call that its agent sent back goes before all calls that never started.
local RETURNED_BEFORE_MS = 2 ^ 39

Line.key = Meter.line_key

local function next_arrival(now)
  return max(now, (tonumber(redis.call('GET', KEYS[FIXED.SEQUENCE]) or 0) or 0) + APART_MS)
end

-- The place that a call would get now. One whose worker died has the place that it had when it came.
function Line.place_now(call, now)
  return (call.arrived or next_arrival(now)) - call[CALL_PRIORITY] * AGEING_MS
end

function Line.next_place(call, returned, now)
  local arrival = not returned and call.arrived or next_arrival(now)
  if arrival ~= call.arrived then redis.call('SET', KEYS[FIXED.SEQUENCE], text(arrival), 'PX', PLACES_TTL) end
  return arrival - call[CALL_PRIORITY] * AGEING_MS - (returned and RETURNED_BEFORE_MS or 0)
end

function Line.length(meter)
  if meter.line_length == nil then meter.line_length = redis.call('ZCARD', Line.key(meter)) end
  return meter.line_length
end

-- A line that was due so long ago has no dispatcher: no process with workers lives. For calls that never
-- stand in line it counts as empty, or it would hold them up for as long as that lasts.
function Line.pass_abandoned(meter, now)
  if meter.line_length ~= nil or Line.length(meter) == 0 then return end
  local due = tonumber(redis.call('ZSCORE', KEYS[FIXED.LINES], Line.key(meter)) or now) or now
  if due + ABANDONED_LINE_MS < now then meter.line_length = 0 end
end

-- When a call that begins to wait gives up, 0 = never.
-- @param longest how long it may wait by its rules, 0 = as long as it takes
function Line.deadline_of(call, now, longest)
  local own = call.max_wait or 0
  longest = own > 0 and own or longest
  local given = call.deadline or 0
  if longest <= 0 then return given end
  return given > 0 and min(given, now + longest) or now + longest
end

-- When a call came that has a place in line; of one that its agent sent back long before that.
function Line.arrival_of(call)
  return call[CALL_PARSED].place + call[CALL_PRIORITY] * AGEING_MS
end

-- Whether its agent has sent a call back that is on its way again: it waits for its agent, whatever it asks for.
function Line.has_returned(call, now)
  local record = call[CALL_PARSED]
  return record and record.place and Line.arrival_of(call) + RETURNED_BEFORE_MS / 2 < now or false
end

-- Puts the call into a line, whose first call sets when to look at it. Returns its rank.
-- @param deadline when it gives up, 0 = never
-- @param claims what it has claimed at meters that refuse (lib/pass.lua), nil = nothing
-- @param length of the line before, if it is known
function Line.join_at(line_key, call, place, moves, deadline, wait, now, claims, length)
  redis.call('ZADD', line_key, text(place), call[CALL_ID])
  Record.save_waiting(call[CALL_RECORD_KEY], place, moves, deadline, line_key, call[CALL_JSON], wait, claims)
  if deadline > 0 then redis.call('ZADD', KEYS[FIXED.DEADLINES], text(deadline), call[CALL_ID]) end
  local rank = length == 0 and 0 or redis.call('ZRANK', line_key, call[CALL_ID])
  if rank == 0 then
    local due = text(max(now, now + wait - LOOKAHEAD_MS))
    if redis.call('ZADD', KEYS[FIXED.LINES], 'LT', 'CH', due, line_key) == 1 then
      redis.call('PUBLISH', KEYS[FIXED.WAKE], due)
    end
  end
  return rank
end

-- Ms until a line is due.
function Line.due_in(line_key, now)
  return max(0, (tonumber(redis.call('ZSCORE', KEYS[FIXED.LINES], line_key) or now) or now) - now)
end

-- Puts the call into the line of a meter.
function Line.join(batch, call, meter, place, moves, deadline, wait, now, claims)
  local length = Line.length(meter)
  meter.line_length = length + 1
  Backlog.add_in_line(batch, call, meter, 1)
  if not call.moves then Backlog.add(batch, call, 1) end
  return Line.join_at(Line.key(meter), call, place, moves, deadline, wait, now, claims, length)
end

-- Forgets a line that is empty; with the last one the sums of all meters, whose rules may be gone.
function Line.close(batch, line_key)
  redis.call('ZREM', KEYS[FIXED.LINES], line_key)
  if redis.call('EXISTS', KEYS[FIXED.LINES]) == 1 then
    Backlog.line_ends(batch, line_key)
  else
    Backlog.forget(batch)
  end
end

-- The meter of a call whose line this is; nil where none of its meters has it.
local function meter_of(batch, call, line_key)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if Line.key(meter) == line_key then return meter end
  end
end

-- @param moves whether it joins the line of another meter at once, and goes on waiting for all of them
function Line.leave(batch, line_key, call, moves)
  local known = call[CALL_PARSED]
  call.moves = nil
  if known and (known.deadline or 0) > 0 then redis.call('ZREM', KEYS[FIXED.DEADLINES], call[CALL_ID]) end
  if redis.call('ZREM', line_key, call[CALL_ID]) == 1 then
    local own = meter_of(batch, call, line_key)
    if own then
      call.moves = moves
      if not moves then Backlog.add(batch, call, -1) end
    end
    if redis.call('EXISTS', line_key) == 0 then
      Line.close(batch, line_key)
    else
      Backlog.leaves_line(batch, call, line_key, own)
    end
  end
end

-- The meter in whose line a waiting call stands, and its rank there; nil where no meter of the call is.
function Line.own(batch, call)
  local line_key = call[CALL_PARSED].line
  local meter = meter_of(batch, call, line_key)
  if meter then return meter, redis.call('ZRANK', line_key, call[CALL_ID]) end
end

-- Room came back at this meter: its line is looked at now.
function Line.stir(meter, now)
  if redis.call('EXISTS', Line.key(meter)) == 1 then
    if redis.call('ZADD', KEYS[FIXED.LINES], 'LT', 'CH', text(now), Line.key(meter)) == 1 then
      redis.call('PUBLISH', KEYS[FIXED.WAKE], text(now))
    end
  end
end

-- The same at all meters of a call.
function Line.stir_all(batch, call, now)
  for position = CALL_METERS, #call do
    Line.stir(batch.meters[call[position]], now)
  end
end
end
