--[[
  Completes a batch of jobs of one BullMQ queue, and hands a next job to each that asks for one: what BullMQ's own script `moveToFinished` (of the
  versions in src/queue/batched-backend.ts) does for one job. The jobs are completed in their order. What is the same for all of them is done once:
  the locks are read and deleted, the events trimmed, the options of the queue read, delayed jobs promoted, finished jobs removed by age and count,
  and the marker that wakes other workers set.

  It does the plain case only, and writes nothing for any other job: one with a parent, with children that are not done or have failed, or with
  deduplication; and for none of the batch where the queue is paused, or has a global concurrency or rate. The worker sends these by BullMQ's script.
  A worker with metrics or a rate limit of its own does not send this script.

  KEYS[1..10] of the queue: wait, active, prioritized, events, stalled, delayed, meta, pc (counts the prioritized), completed, marker
  KEYS[11..]  one hash per job. As in BullMQ's scripts, keys that follow from these are not named: what a job has beside its hash, and the jobs that
              are handed over or removed; all begin with the prefix of the queue, and have its hash tag.
  ARGV[1]     now in ms, by the worker's clock, as BullMQ has it
  ARGV[2]     the prefix of the queue's keys, with its colon
  ARGV[3]     how long the locks of the next jobs last, in ms
  ARGV[4]     the name of the worker, '' for none
  ARGV[5..7]  which completed jobs are kept, as in BullMQ's `keepJobs`: how many ('' = all, 0 = none); for how many seconds ('' = for good); how many
              older ones a finish may remove
  ARGV[8]     a letter per job: 1 = hand over a next job
  ARGV[9..]   per job: the token of its lock, and its return value as JSON

  Reply       '' where the queue is none for this script; else JSON: 1 if old jobs are left for BullMQ to remove, since a parent waits for them, else 0; then per job
              - the next job: [its hash as fields and values, its id, 0, 0]
              - no next job: [0, 0, 0, when the next delayed job is due, in ms]
              - 0: completed, nothing else to tell
              - -1, -2, -3, -6: not completed, as BullMQ answers: there is no such job, it has no lock, is not active, has a lock of another token
              - 'own': not a plain job, nothing was written for it
              - {"error": text}: what Redis said; it concerns that job alone
  Cost        per job 4 commands, 5 if it is kept, and 6 for a next one; 9 a batch
]]
--- @include "lib/bull-queue.lua"

local WAIT, ACTIVE, PRIORITIZED, EVENTS, STALLED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local DELAYED, META, PRIORITY_COUNTER, COMPLETED, MARKER = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local FIRST_JOB, FIRST_ARG = 11, 9
local now, prefix, lock_ms, worker = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local keep_count, keep_age, remove_at_most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local wants_next = ARGV[8]
local count = #KEYS - FIRST_JOB + 1
local call = redis.call
--- Redis takes some thousand arguments a command.
local CHUNK = 1000

local options = call('HMGET', META, 'opts.maxLenEvents', 'paused', 'concurrency', 'max')
if options[2] or options[3] or options[4] then return '' end

local function error_text(failure)
  return { error = type(failure) == 'table' and failure.err or tostring(failure) }
end

--- Calls `command` with `first` and all of `rest`, some at a time.
local function in_chunks(command, first, rest)
  for from = 1, #rest, CHUNK do
    local to = math.min(from + CHUNK - 1, #rest)
    if first then
      call(command, first, unpack(rest, from, to))
    else
      call(command, unpack(rest, from, to))
    end
  end
end

--- Adds what a job may have in Redis but children that are not done.
local function add_keys_of(job_key, to)
  local n = #to
  to[n + 1], to[n + 2], to[n + 3], to[n + 4] = job_key, job_key .. ':logs', job_key .. ':processed', job_key .. ':failed'
end

--- The jobs that are completed here, as their places in the batch; `replies` has an answer for each other one.
local plain, attempts, replies = {}, {}, {}
local locks, children = {}, {}
for i = 1, count do
  local key = KEYS[FIRST_JOB + i - 1]
  locks[i] = key .. ':lock'
  children[2 * i - 1], children[2 * i] = key .. ':dependencies', key .. ':unsuccessful'
end
local tokens = call('MGET', unpack(locks))
local some_have_children = call('EXISTS', unpack(children)) > 0

local ids, deleted_locks = {}, {}
for i = 1, count do
  local key, token = KEYS[FIRST_JOB + i - 1], ARGV[FIRST_ARG + 2 * (i - 1)]
  local job = redis.pcall('HMGET', key, 'atm', 'timestamp', 'parentKey', 'parent', 'deid')
  if job.err then
    replies[i] = 'own'
  elseif not job[2] then
    replies[i] = call('EXISTS', key) == 1 and 'own' or -1
  elseif job[3] or job[4] or job[5] or (some_have_children and call('EXISTS', children[2 * i - 1], children[2 * i]) > 0) then
    replies[i] = 'own'
  elseif tokens[i] ~= token then
    replies[i] = tokens[i] and -6 or -2
  else
    local n = #plain + 1
    plain[n], ids[n], deleted_locks[n] = i, string.sub(key, #prefix + 1), locks[i]
    attempts[i] = (tonumber(job[1]) or 0) + 1
  end
end
if #plain == 0 then return cjson.encode({ 0, unpack(replies) }) end

call('SREM', STALLED, unpack(ids))
call('DEL', unpack(deleted_locks))

--- Completed and next jobs of this batch.
local finished, scored, removed = {}, {}, {}
for n, i in ipairs(plain) do
  local id = ids[n]
  if call('LREM', ACTIVE, -1, id) < 1 then
    replies[i] = -3
  else
    finished[#finished + 1] = n
    if keep_count == 0 then
      add_keys_of(KEYS[FIRST_JOB + i - 1], removed)
    else
      scored[#scored + 1] = now
      scored[#scored + 1] = id
    end
  end
end
if #finished == 0 then return cjson.encode({ 0, unpack(replies) }) end
in_chunks('DEL', nil, removed)
in_chunks('ZADD', COMPLETED, scored)

local most_events = options[1]
if not most_events then
  most_events = 10000
  call('HSET', META, 'opts.maxLenEvents', most_events)
end
call('XTRIM', EVENTS, 'MAXLEN', '~', most_events)

local marked = false
local function mark()
  if not marked then call('ZADD', MARKER, 0, '0') end
  marked = true
end

--- Moves the delayed jobs that are due to where they wait: once, since `now` stays.
local promoted = false
local function promote()
  promoted = true
  local due = call('ZRANGEBYSCORE', DELAYED, 0, (now + 1) * 0x1000 - 1, 'LIMIT', 0, 1000)
  if #due == 0 then return end
  call('ZREM', DELAYED, unpack(due))
  for _, id in ipairs(due) do
    BullQueue.put(WAIT, PRIORITIZED, PRIORITY_COUNTER, EVENTS, id, prefix .. id)
  end
  mark()
end

local function next_prioritized()
  local first = call('ZPOPMIN', PRIORITIZED)
  if #first == 0 then
    call('DEL', PRIORITY_COUNTER)
    return nil
  end
  call('LPUSH', ACTIVE, first[1])
  return first[1]
end

local function next_id()
  local id = call('RPOPLPUSH', WAIT, ACTIVE)
  if not id then return next_prioritized() end
  if string.sub(id, 1, 2) ~= '0:' then return id end
  -- A marker of an old BullMQ, not a job.
  call('LREM', ACTIVE, 1, id)
  return id == '0:0' and next_prioritized() or nil
end

--- Makes the next job active, with its lock under `token`; nil where there is none, nor a delayed one.
local function next_job(token)
  if not promoted then promote() end
  local id = next_id()
  if not id then
    local first = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    local due = tonumber(first[2])
    return due and { 0, 0, 0, math.floor(due / 0x1000) } or nil
  end
  local key = prefix .. id
  call('SET', key .. ':lock', token, 'PX', lock_ms)
  call('XADD', EVENTS, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
  if worker == '' then
    call('HSET', key, 'processedOn', now)
  else
    call('HSET', key, 'processedOn', now, 'pb', worker)
  end
  call('HINCRBY', key, 'ats', 1)
  mark()
  return { call('HGETALL', key), id, 0, 0 }
end

local function finish(n)
  local i = plain[finished[n]]
  local value = ARGV[FIRST_ARG + 2 * (i - 1) + 1]
  if keep_count ~= 0 then call('HSET', KEYS[FIRST_JOB + i - 1], 'atm', attempts[i], 'returnvalue', value, 'finishedOn', now) end
  call('XADD', EVENTS, '*', 'event', 'completed', 'jobId', ids[finished[n]], 'returnvalue', value, 'prev', 'active')
  if string.byte(wants_next, i) == 49 then
    local job = next_job(ARGV[FIRST_ARG + 2 * (i - 1)])
    if job then return job end
  end
  -- Before the last one others of the batch count as active.
  if n == #finished and call('LLEN', WAIT) == 0 and call('LLEN', ACTIVE) == 0 and call('ZCARD', PRIORITIZED) == 0 then
    call('XADD', EVENTS, '*', 'event', 'drained')
  end
  return 0
end

for n = 1, #finished do
  local done, reply = pcall(finish, n)
  replies[plain[finished[n]]] = done and reply or error_text(reply)
end

--- Whether the removal of a job changes nothing beside its keys: it has no parent that still waits for it.
local function goes_alone(key)
  local parent = redis.pcall('HGET', key, 'parentKey')
  if not parent or parent == '' then return true end
  return type(parent) == 'string' and redis.pcall('SISMEMBER', parent .. ':dependencies', key) == 0
end

--- Removes completed jobs that are not kept any more. @return whether there are others, which BullMQ has to remove
local function remove_old(old)
  local gone, keys, left = {}, {}, false
  for _, id in ipairs(old) do
    local key = prefix .. id
    if goes_alone(key) then
      gone[#gone + 1] = id
      add_keys_of(key, keys)
      keys[#keys + 1] = key .. ':dependencies'
      keys[#keys + 1] = key .. ':unsuccessful'
    else
      left = true
    end
  end
  in_chunks('DEL', nil, keys)
  in_chunks('ZREM', COMPLETED, gone)
  return left
end

local left = false
if keep_count ~= 0 and keep_age then
  local most = math.max(remove_at_most, math.min(remove_at_most * #finished, 1000))
  left = remove_old(call('ZREVRANGEBYSCORE', COMPLETED, now - keep_age * 1000, '-inf', 'LIMIT', 0, most))
end
if keep_count and keep_count > 0 then left = remove_old(call('ZREVRANGE', COMPLETED, keep_count, -1)) or left end
return cjson.encode({ left and 1 or 0, unpack(replies) })
