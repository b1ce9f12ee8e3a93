--[[
  Writes a namespace's rules if those they were worked out from still stand, and tells every
  process. Two who change them at once cannot lose each other's change.

  KEYS[1]     the rules: a hash of version, rules, prices, added
  KEYS[2]     the channel on which processes listen
  ARGV[1]     the version they were worked out from, '' = there were none
  ARGV[2]     the new version
  ARGV[3]     the declared rules as JSON
  ARGV[4]     the prices as JSON
  ARGV[5]     the rules added at run time as JSON
  ARGV[6]     the notice

  Reply       1 if they were written, 0 if others are in force by now
  Cost        one HGET, one HSET, one PUBLISH
]]
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'rules', ARGV[3], 'prices', ARGV[4], 'added', ARGV[5])
redis.call('PUBLISH', KEYS[2], ARGV[6])
return 1
