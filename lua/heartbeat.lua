--[[
  A process's sign of life, answered with all processes that have the namespace open. A process that
  gave none for a while is left out, by Redis' clock, whatever the clock of the process says.

  KEYS[1]     the members: a sorted set of processes, by when they are left out; the name of one
              that has yet to say what it used in an outage begins with ~
  KEYS[2]     the pulse (lib/pulse.lua)
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the id of the process
  ARGV[3]     for how long it is taken to be there, in ms; 0 = it leaves
  ARGV[4]     1 if it has yet to say what it used

  Reply       { now, member, when it is left out, … }, in the order of their names
  Cost        one ZREMRANGEBYSCORE, one ZREM, one ZADD, one ZRANGE, one GET
]]
--- @include "lib/clock.lua"
--- @include "lib/pulse.lua"

local now = Clock.now(ARGV[1])
if not Clock.is_given() then Pulse.beat(KEYS[2], now, false) end
local stay, plain, reporting = tonumber(ARGV[3]), ARGV[2], '~' .. ARGV[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', Clock.text(now))
if stay > 0 then
  local name, other = plain, reporting
  if ARGV[4] == '1' then name, other = reporting, plain end
  redis.call('ZREM', KEYS[1], other)
  redis.call('ZADD', KEYS[1], Clock.text(now + stay), name)
  redis.call('PEXPIRE', KEYS[1], Clock.px(stay))
else
  redis.call('ZREM', KEYS[1], plain, reporting)
end
local found, members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #found, 2 do
  local id = string.gsub(found[i], '^~', '')
  members[#members + 1] = { id, found[i], found[i + 1] }
end
table.sort(members, function(one, another)
  return one[1] < another[1]
end)
local reply = { Clock.text(now) }
for _, member in ipairs(members) do
  reply[#reply + 1] = member[2]
  reply[#reply + 1] = member[3]
end
return reply
