--[[
  Extends the leases of calls that are still running. A slot whose lease has ended, because Redis was away
  or its worker was late, is taken back where the limit has room; where others took the room it is lost.
  Only the slots of these starts are touched.

  KEYS[i]     the leases of one meter each
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[3i-1]  the lease of KEYS[i] in ms
  ARGV[3i]    the capacity of its limit
  ARGV[3i+1]  the names of the starts that hold a slot there, as a JSON array

  Reply       the names of those that hold none any more
  Cost        one ZSCORE and one ZADD per lease
]]
--- @include "lib/clock.lua"

local now = Clock.now(ARGV[1])
local lost = {}
for i, key in ipairs(KEYS) do
  local lease, capacity = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local ends = Clock.text(now + lease)
  local used = redis.call('ZCOUNT', key, '(' .. Clock.text(now), '+inf')
  local held = false
  for _, name in ipairs(cjson.decode(ARGV[3 * i + 1])) do
    local is_held = tonumber(redis.call('ZSCORE', key, name) or 0) > now
    if is_held or used < capacity then
      redis.call('ZADD', key, ends, name)
      used, held = used + (is_held and 0 or 1), true
    else
      lost[#lost + 1] = name
    end
  end
  if held then redis.call('PEXPIRE', key, Clock.px(lease)) end
end
return lost
