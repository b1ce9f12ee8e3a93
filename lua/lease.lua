--[[
  Takes or keeps the lease of the one who drains.

  KEYS[1]     drainer
  ARGV[1]     who asks
  ARGV[2]     the lease in ms; 0 gives it up

  Reply       1 if the lease is theirs, else 0
  Cost        one GET, one SET
]]
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
