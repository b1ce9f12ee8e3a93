--[[
  A worker says how many places it has, and how many of them are taken: calls of its queue are woken for it.
  Its first report, and that of a place which came free, has the line of its queue looked at.

  KEYS[1]     the workers: a hash of what each reported last
  KEYS[2]     the lines, by when to look at them
  KEYS[3]     the line of the worker's queue
  KEYS[4]     the channel on which dispatchers listen
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the id of the worker
  ARGV[3]     for how long it is taken to be there, in ms; 0 = it leaves
  ARGV[4]     for how long, after that, its report is kept in ms: until its jobs are given to others
  ARGV[5]     its places, those taken, and the calls it ended per second, as three numbers, then its queue

  Reply       1 if the line of its queue is looked at, else 0
  Cost        two HSET or HDEL and PEXPIRE; two more writes where calls stand in the line
]]
--- @include "lib/clock.lua"

local now, stay = Clock.now(ARGV[1]), tonumber(ARGV[3])
if stay <= 0 then
  redis.call('HDEL', KEYS[1], ARGV[2])
  return 0
end
local till = now + stay
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f %.0f %s', till, till + tonumber(ARGV[4]), ARGV[5]))
redis.call('PEXPIRE', KEYS[1], Clock.px(stay + tonumber(ARGV[4])))
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
if redis.call('ZADD', KEYS[2], 'LT', 'CH', Clock.text(now), KEYS[3]) == 0 then return 0 end
redis.call('PUBLISH', KEYS[4], Clock.text(now))
return 1
