--[[
  Charges calls that have happened already, whether there is room or not; the part above a limit is
  debt. A call that is recorded twice under one id counts once.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua

  Reply       packed doubles, see lib/reply.lua; outcomes RUN, WATCHED, TAKEN
  Cost        one MGET, one SET per meter, one SET per call
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)

for _, call in ipairs(batch.calls) do
  Batch.read_again(batch, call)
  local record = call[CALL_PARSED]
  if Record.is_of_another(call, now) then
    Reply.add(reply, OUTCOME.TAKEN)
  elseif record and record.state == 'S' then
    Reply.add(reply, Decide.running(batch, call))
  else
    Decide.each_limit(batch, call, function(meter, n, cost, limit)
      if cost > 0 and not limit.leased and n <= meter.rule.active then
        Charge.overrun(meter, n, limit, cost, now, now, call)
      end
    end)
    Decide.open(batch, call, now)
    Reply.add(reply, OUTCOME.RUN)
  end
end

return Reply.save(reply, batch)
