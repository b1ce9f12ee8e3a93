--[[
  Compare and set, for algorithms of a user's own, and for which process holds a call: writes a state if the
  one it was worked out from still stands. Two callers that worked on the same state cannot both win.

  KEYS[1]     the state
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     what the state was, '' = none
  ARGV[3]     what it becomes; '' = only read
  ARGV[4]     how long it is kept after that, in ms

  Reply       { now, 1 if it was written, the state as it is now ('' = none) }
  Cost        one GET, one SET where it was written
]]
--- @include "lib/clock.lua"

local now = Clock.text(Clock.now(ARGV[1]))
local state = redis.call('GET', KEYS[1]) or ''
if ARGV[3] == '' or state ~= ARGV[2] then return { now, 0, state } end
redis.call('SET', KEYS[1], ARGV[3], 'PX', Clock.px(tonumber(ARGV[4])))
return { now, 1, ARGV[3] }
