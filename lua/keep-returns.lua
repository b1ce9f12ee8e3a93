--[[
  Keep returns: notes in the job of a held call how often its agent has refused it. A held call starts without a
  job, and gets one after its first refusal: report-upstream.lua had nowhere to note it. A job that has ended
  meanwhile is not made anew; one that was refused again meanwhile keeps the later note.

  KEYS[1]     the job
  ARGV[1]     what is to be kept, as report-upstream.lua answered it

  Reply       1 if it was noted, 0 if not
  Cost        one EXISTS, one HSETNX
]]
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSETNX', KEYS[1], RETURNS_FIELD, ARGV[1])
