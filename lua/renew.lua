--[[
  Extends the leases of calls that are still running. A lease that has ended is not brought back: its
  slot may be another call's by now.

  KEYS[i]     the leases of one meter each
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2i]    the lease of KEYS[i] in ms
  ARGV[2i+1]  the ids that hold one, as a JSON array

  Reply       how many leases were extended
  Cost        one ZADD per lease
]]
--- @include "lib/clock.lua"

local now = Clock.now(ARGV[1])
local extended = 0
for i, key in ipairs(KEYS) do
  local lease = tonumber(ARGV[2 * i])
  local ends = Clock.text(now + lease)
  local held = false
  for _, id in ipairs(cjson.decode(ARGV[2 * i + 1])) do
    local end_of_lease = tonumber(redis.call('ZSCORE', key, id) or 0)
    if end_of_lease > now then
      redis.call('ZADD', key, 'XX', ends, id)
      extended, held = extended + 1, true
    end
  end
  if held then redis.call('PEXPIRE', key, Clock.px(lease)) end
end
return extended
