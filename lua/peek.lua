--[[
  Says what admit would answer to a newcomer, and changes nothing.

  KEYS, ARGV[1], ARGV[2]  as in admit.lua
  Reply       as in admit.lua; outcome 'refused' where the call would have to wait
  Cost        one MGET, one ZCARD per meter while any line exists; no write
]]
--- @include "lib/core.lua"
--- @include "lib/reply.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local reply = new_reply(now, batch)
if not batch then
  return pack_reply(reply)
end

local function ahead(meter, n, limit)
  if limit.leased or not batch.any_line or line_of(meter) == 0 then
    return meter.claimed[n]
  end
  return meter.claimed[n] + queued_cost(meter, limit[LIMIT_UNIT])
end

for _, call in ipairs(batch.calls) do
  local wait, binding = weigh(batch, call, now, ahead)
  if wait == -1 then
    add_reply(reply, call, binding.limit[LIMIT_CAPACITY] == 0 and CLOSED or TOO_BIG, wait, binding)
  elseif wait == 0 then
    add_reply(reply, call, RUN, 0, nil)
  else
    add_reply(reply, call, REFUSED, wait, binding)
  end
end

return pack_reply(reply, batch)
