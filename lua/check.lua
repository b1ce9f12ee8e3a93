--[[
  Decides on calls that never stand in line: each is charged under all its meters at once, or refused.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock (given in tests and simulations only)
  ARGV[2]     the batch as JSON, see lib/batch.lua

  Reply       packed doubles, see lib/reply.lua; outcomes RUN, WATCHED, REFUSED, TOO_BIG, CLOSED,
              TAKEN
  Cost        one MGET, one SET per meter that changes, one SET per call; a refusal writes nothing
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)

local function decide(call)
  local record = call[CALL_PARSED]
  if Record.is_of_another(call, now) then return Reply.add(reply, OUTCOME.TAKEN) end
  if record and record.state == 'S' then
    -- Answered before, and the reply was lost: it is charged once.
    return Reply.add(reply, Decide.running(batch, call))
  end
  local refusal, wait, binding = Decide.refusal(batch, call, now)
  Reply.add(reply, refusal or Decide.start(batch, call, now), wait, binding)
end

for _, call in ipairs(batch.calls) do
  Batch.read_again(batch, call)
  decide(call)
end

return Reply.save(reply, batch)
