--[[
  Wakes the calls at the front of lines, as many as there is room for within the lookahead, and as their
  queues can take: each gets a pass, which claims its room on all its meters until it starts. Any number of
  dispatchers may run it at once; a call that one has woken the next finds gone.

  A call that another meter refuses moves to that one's line, with its place. Two busy meters could send
  it to and fro for ever; so a call that has moved may take its room at the other meter further ahead of
  time, and after a few moves as far ahead as it is.

  No call waits for a meter that refuses: a call that has its room but for such a meter is woken without room,
  and its worker carries out the strategy (it ends as refused, runs degraded, or the user's code is asked).

  A call whose queue can take none now is passed over: it keeps its place, and the calls behind it go. Where
  its queue has taken none for a while, it goes to the line of its queue, which is woken from like any other
  line. A call that has no job (its app died before it added it, or it was removed) leaves its line; if it
  came lately, it has a pass without a claim, until its job comes or PASS_GRACE_MS are over.

  KEYS        as in start.lua; the lines; the line of each queue; the job of each call, where these are named
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON: the calls of one line after the other, each in order
  ARGV[3]     as JSON: lines  [[key index of the line, its meter in the batch or 0 (it has none), number of
                               its calls in the batch, 1 if it is the line of one call that its
                               agent has refused, which is looked at when it is due, not before], …]
                       queues [[calls that may claim room, calls that may be woken without, 1 if the others
                               go to the line of the queue, key index of that line], …]
                       of     per call the number of its queue; left out: any number of calls may claim
                       jobs   the key index of the job of the first call, 0 = jobs are not looked at
  ARGV[4…]    per call: the call as JSON

  Reply       { now, ids woken, ms until the earliest line can move or -1, ids woken without a claim, ids
              dropped for want of a job, per line { how many of the calls looked at have left it, 1 if a call
              without room ended the look, else 0: the calls behind them may go, too }, per call moved
              { its id, the key of its new line } }
  Cost        one MGET, one SET per meter that changes; three writes and a look at the job per woken call
]]
--- @include "lib/core.lua"

local CROSSING_LOOKAHEAD_MS = 1000
local MOVES_BEFORE_ANY_SLOT = 3
local text = Clock.text

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local given = cjson.decode(ARGV[3])
local queues, queue_of = given.queues or {}, given.of or {}
local woken, unclaimed, dropped, moved = {}, {}, {}, {}

-- How far ahead of its slot a call may be woken, as its other meters are concerned.
local function reach(record)
  if record.moves >= MOVES_BEFORE_ANY_SLOT then return math.huge end
  return record.moves > 0 and CROSSING_LOOKAHEAD_MS or LOOKAHEAD_MS
end

-- The job of a call is added a moment after its place in line, so a call that has just come is taken to
-- have one.
local function has_job(i, call)
  if given.jobs == 0 then return true end
  local job = redis.call('HMGET', KEYS[given.jobs + i - 1], 'timestamp', 'finishedOn')
  if job[1] then return not job[2] end
  return Line.arrival_of(call) + JOB_AWAITED_MS > now
end

local function wake(call, line_key, wait, claims)
  Line.leave(batch, line_key, call)
  local slot = now + math.max(0, wait)
  local soon = wait <= LOOKAHEAD_MS
  Pass.give(batch, call, call[CALL_PARSED], slot, claims and Pass.ROOM or Pass.AT_STRICT, soon and now + PASS_CHECK_MS or slot - LOOKAHEAD_MS)
  if not claims then
    -- Calls behind it that would hold nothing either are woken as if it had started: not all of them for the
    -- same room. Calls that a worker can take at once are not kept from that room.
    Decide.each_limit(batch, call, function(meter, n, cost)
      if not Pass.is_strict(call, meter.rule) then Decide.add_unclaimed(meter, n, cost) end
    end)
    unclaimed[#unclaimed + 1] = call[CALL_ID]
  end
  if soon then woken[#woken + 1] = call[CALL_ID] end
end

local function note_move(call, line_key)
  moved[#moved + 1] = { call[CALL_ID], line_key }
end

-- A call that cannot wait any more: its worker finds why, and says so.
local function wake_to_end(call, line_key)
  Line.leave(batch, line_key, call)
  Pass.give(batch, call, call[CALL_PARSED], now, nil, now + PASS_CHECK_MS)
  unclaimed[#unclaimed + 1] = call[CALL_ID]
  woken[#woken + 1] = call[CALL_ID]
end

-- A call without a job costs the others nothing any more. One that has come lately keeps the right to
-- start: its app may be slow.
local function leave_without_job(call, line_key)
  Line.leave(batch, line_key, call)
  if Line.arrival_of(call) + PASS_GRACE_MS > now then
    Pass.give(batch, call, call[CALL_PARSED], now, nil, now + PASS_CHECK_MS / 10)
    return
  end
  Pass.give_back(batch, call, call[CALL_PARSED], now)
  Batch.drop_record(batch, call)
  dropped[#dropped + 1] = call[CALL_ID]
end

local function has_room_unclaimed(call, wait)
  local found = Decide.weigh(batch, call, now, Decide.UNCLAIMED)
  return not found or found.wait <= math.max(wait, LOOKAHEAD_MS)
end

-- A call has room. Returns ms until its line may be looked at again, where its queue cannot take it.
local function wake_or_pass_over(i, call, line_key, wait)
  if not has_job(i, call) then return leave_without_job(call, line_key) end
  local queue = queues[queue_of[i]]
  if not queue then return wake(call, line_key, wait, true) end
  for kind = 1, 2 do
    if queue[kind] > 0 and (kind == 1 or has_room_unclaimed(call, wait)) then
      queue[kind] = queue[kind] - 1
      return wake(call, line_key, wait, kind == 1)
    end
  end
  local queue_line = KEYS[queue[4]]
  if queue[3] == 0 then return QUEUE_LOOK_MS end
  if line_key == queue_line then return SHUT_QUEUE_LOOK_MS end
  local record = call[CALL_PARSED]
  Line.leave(batch, line_key, call)
  Line.join_at(queue_line, call, record.place, record.moves, record.deadline, SHUT_QUEUE_LOOK_MS, now, record.claims)
  note_move(call, queue_line)
end

-- Gathers the longest wait at the line's own meter and at the others; which of the others that is; one of
-- the others of which it is not known when it has room (a slot, a pause); and the refusal that decides, of
-- those that are further ahead than calls are woken. Meters that refuse are not waited for.
local function here_and_elsewhere(own)
  local waits = { here = 0, there = 0, elsewhere = nil, full = nil, deciding = nil }
  return waits, function(_, call, meter, at, n, wait)
    local binding = Decide.binding(call, meter, at, n, now)
    local strict = Decide.is_strict(binding)
    if binding.leased or binding.paused then
      -- A slot may come back before its lease ends, and may not when it ends, as a pause may: a call
      -- is never woken ahead of that.
      wait = math.max(wait, LOOKAHEAD_MS + 1)
      waits.full = meter ~= own and not strict and meter or waits.full
    end
    if wait > LOOKAHEAD_MS then waits.deciding = Decide.deciding(binding, waits.deciding) end
    if strict then
      if wait <= LOOKAHEAD_MS then waits.soon = math.max(waits.soon or 0, wait) end
    elseif meter == own then
      waits.here = math.max(waits.here, wait)
    elseif wait > waits.there then
      waits.there, waits.elsewhere = wait, meter
    end
    return waits
  end
end

-- A meter of a call in whose line another one stands that came before it: that one goes first. A call that has
-- moved before is not sent on by this, or two lines could send calls to and fro.
local function line_before(call, own, record)
  for position = CALL_METERS, record.moves == 0 and #call or 0 do
    local meter = batch.meters[call[position]]
    if meter ~= own then
      local first = redis.call('ZRANGE', Line.key(meter), 0, 0, 'WITHSCORES')
      if first[2] and tonumber(first[2]) < record.place then return meter end
    end
  end
end

-- Returns, where the call stays where it is, ms until its line can move, and whether only its queue is
-- full, so that the calls behind it may go.
-- @param is_own whether the line is that of this call alone
local function advance(i, call, own, line_key, is_own)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'W' or record.line ~= line_key then
    redis.call('ZREM', line_key, call[CALL_ID])
    return nil
  end
  local waits, gather = here_and_elsewhere(own)
  local found = Decide.weigh(batch, call, now, Decide.BEHIND, gather)
  if found and found.wait == -1 then
    -- It can never pass under the rules as they are now: its worker finds that and says so.
    wake_to_end(call, line_key)
    return nil
  end
  if waits.here > LOOKAHEAD_MS then return waits.here end
  if waits.deciding and Decide.is_strict(waits.deciding) then
    wake_to_end(call, line_key)
    return nil
  end
  -- Calls come back from the line of their queue in several looks; while the queue takes none they stay there.
  local queue = queues[queue_of[i]]
  local in_queue_line = queue and KEYS[queue[4]] == line_key
  local goes_by_place = own or in_queue_line and queue[1] + queue[2] > 0
  local before = not waits.full and goes_by_place and line_before(call, own, record)
  if not waits.full and not before and waits.there <= reach(record) then
    return wake_or_pass_over(i, call, line_key, math.max(waits.here, waits.there, waits.soon or 0)), true
  end
  if own then
    for n, limit in ipairs(own.rule.limits) do
      Decide.add_behind(own, n, call[limit.cost_at])
    end
  end
  -- From the line of its queue, or from one of its own, it comes back to where it was.
  local moves = (is_own or in_queue_line) and record.moves or record.moves + 1
  Line.leave(batch, line_key, call, true)
  Pass.give_back(batch, call, record, now)
  local meter = waits.full or before or waits.elsewhere
  Line.join(batch, call, meter, record.place, moves, record.deadline, waits.there, now, Pass.claim_in_line(batch, call, meter))
  note_move(call, Line.key(meter))
  return nil
end

-- The lines, each with the calls at its front, of which the next one stands at `place`.
local function fronts_of(lines)
  local fronts, cursor = {}, 0
  for n, line in ipairs(lines) do
    local line_key, is_own = KEYS[line[1]], line[4] == 1
    local due_in = is_own and Line.due_in(line_key, now) or 0
    fronts[n] = {
      key = line_key, own = batch.meters[line[2]], is_own = is_own, at = cursor, last = cursor + line[3],
      wait = due_in > 0 and due_in + LOOKAHEAD_MS or nil, passed_over = nil, place = nil, left = 0,
    }
    cursor = cursor + line[3]
  end
  return fronts
end

-- Goes on to the next call, which is none where the line cannot move. One without a place has left its line.
local function step(front)
  front.at = front.at + 1
  local record = front.at <= front.last and batch.calls[front.at][CALL_PARSED]
  front.place = front.at <= front.last and not front.wait and (record and record.place or 0) or nil
end

-- The line whose next call came first of all.
local function first_of(fronts)
  local first = nil
  for _, front in ipairs(fronts) do
    if front.place and (not first or front.place < first.place) then first = front end
  end
  return first
end

-- Calls of all these lines in the order of their places: calls that stand in different lines may need the same room.
local fronts = fronts_of(given.lines)
for _, front in ipairs(fronts) do step(front) end
local front = first_of(fronts)
while front do
  local call = batch.calls[front.at]
  call[CALL_JSON] = ARGV[3 + front.at]
  local after, queue_is_full = advance(front.at, call, front.own, front.key, front.is_own)
  if queue_is_full and after then
    front.passed_over = front.passed_over or after
  else
    front.wait = after
    if not after then front.left = front.left + 1 end
  end
  step(front)
  front = first_of(fronts)
end
local looks = {}
for n, one in ipairs(fronts) do
  looks[n] = { one.left, one.wait and 1 or 0 }
  if redis.call('EXISTS', one.key) == 0 then
    Line.close(batch, one.key)
  else
    local after = one.wait and math.max(1, one.wait - LOOKAHEAD_MS) or one.passed_over or 0
    redis.call('ZADD', KEYS[FIXED.LINES], text(now + math.min(after, one.passed_over or after)), one.key)
  end
end

Batch.save(batch)
local first = redis.call('ZRANGE', KEYS[FIXED.LINES], 0, 0, 'WITHSCORES')
return { text(now), woken, first[2] and text(math.max(0, tonumber(first[2]) - now)) or '-1', unclaimed, dropped, looks, moved }
