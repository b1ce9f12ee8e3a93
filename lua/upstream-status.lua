--[[
  What an agent, endpoint and model is known to allow now.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of calls as JSON, each of which meets the meter of one upstream block last

  Reply       per call a list, see Upstream.status in lib/upstream.lua
  Cost        one MGET; no write
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = Upstream.status(batch.meters[call[#call]], now)
end
return reply
