--[[
  The front door, before a call's job is added: promises room (a pass), finds a place in line, or
  refuses, under all meters of the call at once or none.

  KEYS        as in start.lua, without locks; then the queues that take no calls now, the line of the calls'
              queue, and the job of each call
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua
  ARGV[3]     the queue of the calls
  ARGV[4…]    per call: the call as JSON, kept beside its pass or its place in line. It begins with the
              identity of the call: under an id that another call waits under it is TAKEN. A call without a
              record whose job exists is JOINED, and gets nothing: its job is on its way, or has ended

  Reply       packed doubles, see lib/reply.lua
  Cost        one MGET, one HGET, a look at the job and three writes per call, one SET per meter that
              changes; a refusal writes nothing
]]
--- @include "lib/core.lua"
--- @include "lib/newcomer.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
batch.reply = Reply.new(now)
local jobs = #KEYS - #batch.calls
local queue_line = KEYS[jobs]

-- What the dispatcher saw of the queue lately.
local function state_of_queue()
  local seen = redis.call('HGET', KEYS[jobs - 1], ARGV[3])
  local state, till = string.match(seen or '', '^(%d) (%d+)$')
  return (tonumber(till) or 0) > now and tonumber(state) or QUEUE_STATE.OPEN
end

local state = state_of_queue()
local waiting = batch.any_line and redis.call('ZCARD', queue_line) or 0

-- Whether the call may wait for a worker: not where it, or one of its rules, wants an answer at once.
local function may_wait(call)
  for position = CALL_METERS, #call do
    if Decide.strictness_of(call, batch.meters[call[position]].rule) > STRICTNESS.THROTTLE then return false end
  end
  return true
end

-- A call that has room, of a queue without a worker, waits in the line of its queue: a pass would promise
-- room that no call uses. It also waits behind the calls that stand there.
local function stand(call)
  local longest = 0
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule = meter.rule
    if rule.max_waiting > 0 and waiting >= rule.max_waiting then
      return Reply.add(batch.reply, OUTCOME.LINE_FULL, 0, Decide.binding(call, meter, position - CALL_METERS + 1, 1, now), waiting)
    end
    if rule.max_wait > 0 then longest = longest > 0 and math.min(longest, rule.max_wait) or rule.max_wait end
  end
  local deadline, place = Line.deadline_of(call, now, longest), Line.next_place(call, false, now)
  local rank = Line.join_at(queue_line, call, place, 0, deadline, SHUT_QUEUE_LOOK_MS, now, nil)
  batch.any_line, waiting = true, waiting + 1
  Reply.add(batch.reply, OUTCOME.WAIT, -1, nil, rank)
end

local door = {
  held = OUTCOME.SLOWED,
  claims = state == QUEUE_STATE.OPEN,
  admit = function(_, call)
    if (state == QUEUE_STATE.SHUT or waiting > 0) and may_wait(call) then return stand(call) end
    Newcomer.promise(batch, call, now, now, Line.deadline_of(call, now, 0), state == QUEUE_STATE.OPEN)
    Reply.add(batch.reply, OUTCOME.RUN)
  end,
}

-- A call that an app sends again because it saw no answer: the first answer stands.
local function answer_again(call, record)
  if record.state == 'S' then
    return Reply.add(batch.reply, Decide.running(batch, call))
  elseif record.state == 'P' then
    return Reply.add(batch.reply, OUTCOME.RUN)
  end
  local _, rank = Line.own(batch, call)
  Reply.add(batch.reply, OUTCOME.WAIT, 0, nil, rank or 0)
end

for i, call in ipairs(batch.calls) do
  Batch.read_again(batch, call)
  local record = call[CALL_PARSED]
  if record and Record.waits_for_another(record, Record.identity_in(ARGV[3 + i])) then
    Reply.add(batch.reply, OUTCOME.TAKEN)
  elseif record then
    answer_again(call, record)
  elseif redis.call('EXISTS', KEYS[jobs + i]) == 1 then
    -- It has its job already: this is a copy that comes late, or another process has added the job.
    Reply.add(batch.reply, OUTCOME.JOINED)
  else
    call[CALL_JSON] = ARGV[3 + i]
    Newcomer.decide(batch, call, now, door)
  end
end

return Reply.save(batch.reply, batch)
