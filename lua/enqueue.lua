--[[
  The front door, before a call's job is added: promises room (a pass), finds a place in line, or
  refuses, under all meters of the call at once or none.

  KEYS        as in start.lua, without locks; then per call the job under its id, which BullMQ keeps
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua
  ARGV[3…]    per call: the call as JSON, kept beside its pass or its place in line. It begins with the
              identity of the call: under an id that another call waits under it is TAKEN. A call whose
              job exists is JOINED, and gets nothing: its job has what it needs, or has ended

  Reply       packed doubles, see lib/reply.lua
  Cost        one MGET, one SET per meter that changes, three writes per call; a refusal writes nothing
]]
--- @include "lib/core.lua"
--- @include "lib/newcomer.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
batch.reply = Reply.new(now)

local door = {
  held = OUTCOME.SLOWED,
  admit = function(_, call)
    Newcomer.promise(batch, call, now, now, Line.deadline_of(call, now, 0))
    return OUTCOME.RUN
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

local first_job = #KEYS - #batch.calls
for i, call in ipairs(batch.calls) do
  Batch.read_again(batch, call)
  local record = call[CALL_PARSED]
  if redis.call('EXISTS', KEYS[first_job + i]) == 1 then
    Reply.add(batch.reply, OUTCOME.JOINED)
  elseif record and Record.waits_for_another(record, Record.identity_in(ARGV[2 + i])) then
    Reply.add(batch.reply, OUTCOME.TAKEN)
  elseif record then
    answer_again(call, record)
  else
    call[CALL_JSON] = ARGV[2 + i]
    Newcomer.decide(batch, call, now, door)
  end
end

return Reply.save(batch.reply, batch)
