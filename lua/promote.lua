--[[
  Puts delayed jobs of one BullMQ queue into its wait list, in their order: what BullMQ's own script `promote` (of the versions in
  src/queue/batched-backend.ts) does for one job. What is the same for all of them is done once: the options of the queue, the marker.

  KEYS[1..8]  of the queue: delayed, wait, prioritized, active, meta, pc (counts the prioritized), events, marker
  KEYS[9..]   one hash per job
  ARGV        the ids of the jobs

  Reply       a letter per job: 1 = promoted, 0 = there is no such delayed job
  Cost        per job 5 commands, 4 a batch
]]
--- @include "lib/bull-queue.lua"
local DELAYED, WAIT, PRIORITIZED, ACTIVE, META = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local PRIORITY_COUNTER, EVENTS, MARKER = KEYS[6], KEYS[7], KEYS[8]
local FIRST_JOB = 9
local call = redis.call

-- Workers of a queue that is paused, or runs as many jobs as it may, are not told of new ones.
local function takes_jobs()
  local options = call('HMGET', META, 'paused', 'concurrency')
  if options[1] then return false end
  return not options[2] or call('LLEN', ACTIVE) < tonumber(options[2])
end

local promoted, any = {}, false
for n, id in ipairs(ARGV) do
  local is_delayed = call('ZREM', DELAYED, id) == 1
  promoted[n] = is_delayed and '1' or '0'
  if is_delayed then
    if not any then
      any = true
      -- A marker of an old BullMQ in the place of a job.
      local marker = call('LINDEX', WAIT, 0)
      if marker and string.sub(marker, 1, 2) == '0:' then call('LPOP', WAIT) end
    end
    BullQueue.put(WAIT, PRIORITIZED, PRIORITY_COUNTER, EVENTS, id, KEYS[FIRST_JOB + n - 1])
  end
end
if any and takes_jobs() then call('ZADD', MARKER, 0, '0') end
return table.concat(promoted)
