--[[
  What check would answer, and changes nothing.

  KEYS, ARGV[1], ARGV[2]  as in check.lua
  Reply       as in check.lua
  Cost        one MGET, one ZCARD per meter while any line exists; no write
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)

for _, call in ipairs(batch.calls) do
  local verdict = Decide.weigh(batch, call, now, Decide.newcomer_view(batch))
  if not verdict then
    Reply.add(reply, OUTCOME.RUN)
  elseif verdict.wait == -1 then
    Reply.add(reply, Decide.never(verdict.binding), -1, verdict.binding)
  else
    Reply.add(reply, OUTCOME.REFUSED, verdict.wait, verdict.binding)
  end
end

return Reply.pack(reply, batch)
