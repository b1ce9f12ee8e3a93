--[[
  Forgets what meters have counted, debt included. Room that is claimed for calls on their
  way stays claimed; calls that run keep running, and hold no slot any more.

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; its calls only name the meters

  Reply       how many meters there were
  Cost        one MGET, one write and two DEL at most per meter
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
for _, meter in ipairs(batch.meters) do
  for n, limit in ipairs(meter.rule[3]) do
    meter.kept[meter.rule.offset + n] = 0
    if meter.histories[n] then
      if limit.algorithm.keyed then
        redis.call('DEL', meter.histories[n].key)
      end
      meter.histories[n] = limit.algorithm.open(limit, nil, meter.histories[n].key, meter.histories[1])
    end
  end
  meter.debt = meter.rule.zeros
  save_meter(meter, now)
  stir(meter, now)
end
return #batch.meters
