-- BullQueue: what several scripts do to a queue of BullMQ, as the versions in src/queue/batched-backend.ts do it.
local BullQueue = {}
do
-- Puts a job that has left the delayed ones where workers take jobs from: behind those that wait, or those of its priority.
-- @param wait, prioritized, counter, events keys of the queue; counter counts the prioritized
-- @param job the key of its hash
function BullQueue.put(wait, prioritized, counter, events, id, job)
  local priority = tonumber(redis.call('HGET', job, 'priority')) or 0
  if priority == 0 then
    redis.call('LPUSH', wait, id)
  else
    redis.call('ZADD', prioritized, priority * 0x100000000 + redis.call('INCR', counter) % 0x100000000, id)
  end
  redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
  redis.call('HSET', job, 'delay', 0)
end
end
