--[[
  What an agent, endpoint and model is known to allow now.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of calls as JSON, each of which meets one block's meter

  Reply       per call a list, see lib/canary.lua
  Cost        one MGET; no write
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = upstream.tell_block(batch.meters[call[#call]], now)
end
return reply
