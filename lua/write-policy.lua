--[[
  Writes a namespace's policy (its rules and all that is set beside them) if the one it was
  worked out from still stands, notes in the audit what has changed, and tells every process.
  Two processes that change it at once cannot lose each other's change, and no change is without its entry.

  KEYS[1]     the policy: a hash of its version and its parts
  KEYS[2]     the channel on which processes listen
  KEYS[3]     the audit: a stream, see lib/audit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the version it was worked out from, '' = there was none
  ARGV[3]     the revision it was worked out from, '' = there was none (src/administration/lineage.ts)
  ARGV[4]     the notice
  ARGV[5]     how long the audit is kept, in ms
  ARGV[6]     how many parts follow
  ARGV[7…]    per part: its field, its value; then per entry of the audit: by, what,
              subject, before, after

  Reply       1 if it was written, 0 if another is stored by now
  Cost        one HMGET, one HSET, one PUBLISH, one XADD per entry
]]
--- @include "lib/clock.lua"
--- @include "lib/audit.lua"

local now = Clock.now(ARGV[1])
local retention, parts = tonumber(ARGV[5]), tonumber(ARGV[6])
local stored = redis.call('HMGET', KEYS[1], 'version', 'revision')
if (stored[1] or '') ~= ARGV[2] or (stored[2] or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 7, 6 + 2 * parts))
for at = 7 + 2 * parts, #ARGV, 5 do
  Audit.append(KEYS[3], now, retention, unpack(ARGV, at, at + 4))
end
redis.call('PUBLISH', KEYS[2], ARGV[4])
return 1
