--[[
  A process says that it is there, and hears who else is. Who has not said so for a while is
  left out: by Redis' clock, whatever that of the process says.

  KEYS[1]     the members: a sorted set of processes, by when they are left out
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the process
  ARGV[3]     for how long it is taken to be there, in ms; 0 = it leaves

  Reply       { now, member, … }, the members in the order of their names
  Cost        one ZREMRANGEBYSCORE, one ZADD, one ZRANGE
]]
--- @include "lib/clock.lua"

local now = clock(ARGV[1])
local stay = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.17g', now))
if stay > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.17g', now + stay), ARGV[2])
  redis.call('PEXPIRE', KEYS[1], px(stay))
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(members)
return { string.format('%.17g', now), unpack(members) }
