--[[
  Settles started calls, see lib/settlement.lua.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; requests and tokens are the actual cost, -1 = as estimated

  Reply       per call 1 if it was settled, 0 if there was nothing to settle
  Cost        one MGET, one SET per meter that changes, one HDEL per ledger
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = settle(batch, call, now) and 1 or 0
end
save_changed(batch, now)
return reply
