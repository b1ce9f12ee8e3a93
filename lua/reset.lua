--[[
  Forgets what meters have counted, debt included, lifts upstream blocks, and notes in the audit what that was. Room that is
  claimed for calls on their way stays claimed; calls that run keep running, and hold no slot any more.

  KEYS        as in start.lua, then the audit, and the counts of entries in it as the last
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; its calls only name the meters
  ARGV[3]     how long the audit is kept, in ms
  ARGV[4]     the actor who resets them
  ARGV[5]     the name of what is reset
  ARGV[6]     what the audit calls it
  ARGV[7]     the names of the limiters, whose resets are counted in one entry; '' = an entry of its own
  ARGV[8…]    the names of the limits, of one meter after the other

  Reply       how many meters there were
  Cost        one MGET, one write and two DEL at most per meter, one XADD and one XDEL
]]
--- @include "lib/core.lua"
--- @include "lib/audit.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local before, name = {}, 7
for _, meter in ipairs(batch.meters) do
  if meter.rule.kind == KIND.UPSTREAM then
    before.blockedMs = Upstream.blocked(meter, now)
    before.factor = meter.block and Recovery.factor_at(meter.block, now) or 1
    Upstream.lift(meter)
  else
    for n in ipairs(meter.rule.limits) do
      name = name + 1
      before[ARGV[name]] = meter.kept[meter.rule.offset + n] + meter.debt[n]
    end
    Meter.reset(meter)
  end
  Line.stir(meter, now)
end
Batch.save(batch)
local audit, retention, by, subject, what, group = KEYS[#KEYS - 1], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if group == '' then
  Audit.append(audit, now, retention, by, what, subject, cjson.encode(before), 'null')
else
  Audit.count(audit, KEYS[#KEYS], now, retention, by, what, group, subject, cjson.encode(before))
end
return #batch.meters
