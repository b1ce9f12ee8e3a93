--[[
  Takes or keeps the lease of the dispatcher. Every worker process asks for it several times a second, which
  is its sign that it reaches Redis (lib/pulse.lua).

  KEYS[1]     the lease: the id of the dispatcher that holds it
  KEYS[2]     the pulse
  ARGV[1]     the dispatcher that asks for it
  ARGV[2]     the lease in ms; 0 gives it up

  Reply       1 if it holds the lease now, else 0
  Cost        two GETs, two SETs
]]
--- @include "lib/clock.lua"
--- @include "lib/pulse.lua"

local holder = redis.call('GET', KEYS[1])
if ARGV[2] == '0' then
  if holder == ARGV[1] then
    redis.call('DEL', KEYS[1])
    Pulse.leave(KEYS[2])
  end
  return 0
end
Pulse.beat(KEYS[2], Clock.now(''), true)
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
