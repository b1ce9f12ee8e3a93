--[[
  Forgets what meters have counted, debt included, and notes in the audit what that was. Room
  that is claimed for calls on their way stays claimed; calls that run keep running, and hold
  no slot any more.

  KEYS        as in admit.lua, and the audit as the last
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; its calls only name the meters
  ARGV[3]     how long the audit is kept, in ms
  ARGV[4]     who resets them
  ARGV[5]     the name of what is reset
  ARGV[6…]    the names of the limits, of one meter after the other

  Reply       how many meters there were
  Cost        one MGET, one write and two DEL at most per meter, one XADD
]]
--- @include "lib/core.lua"
--- @include "lib/audit.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local before, name = {}, 5
for _, meter in ipairs(batch.meters) do
  for n, limit in ipairs(meter.rule[3]) do
    name = name + 1
    before[ARGV[name]] = meter.kept[meter.rule.offset + n] + meter.debt[n]
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
append_audit(KEYS[#KEYS], now, tonumber(ARGV[3]), ARGV[4], 'limiter.reset', ARGV[5], cjson.encode(before), 'null')
return #batch.meters
