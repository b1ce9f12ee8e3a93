--[[
  What check would answer, and changes nothing. A call whose record says that it stands in line is
  answered as if it stood at the end of that line.

  KEYS, ARGV[1], ARGV[2]  as in check.lua
  Reply       as in check.lua
  Cost        one MGET, one ZCARD per meter while any line exists; no write
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)

for _, call in ipairs(batch.calls) do
  if Record.is_of_another(call, now) then
    Reply.add(reply, OUTCOME.TAKEN)
  else
    local refusal, wait, binding = Decide.refusal(batch, call, now)
    Reply.add(reply, refusal or OUTCOME.RUN, wait, binding)
  end
end

Reply.add_meters(reply, batch.meters)
return Reply.pack(reply)
