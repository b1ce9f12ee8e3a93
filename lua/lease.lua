--[[
  Takes or keeps the lease of the dispatcher.

  KEYS[1]     the lease: the id of the dispatcher that holds it
  ARGV[1]     the dispatcher that asks for it
  ARGV[2]     the lease in ms; 0 gives it up

  Reply       1 if it holds the lease now, else 0
  Cost        one GET, one SET
]]
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
