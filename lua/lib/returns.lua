-- Returns: how often its agent has refused a call, kept as long as the call is: in a field of the hash of its
-- BullMQ job. So it survives starts, in which the call's record ends, deaths of workers, and the way to another
-- worker; and it goes with the job. Written by the script that gives the charge back, once for each start.
--   all      refusals
--   counted  those that count as returns: not one beside others for which the agent had no room, after the first
--   at       when the last one was
--   gives_up when the call gives up, 0 = never: counted from its first refusal
--   share    the part that its first refusal has left of its agent's factor; 1 once that was given back
local Returns = {}
do
-- What is kept of a call; nil where it was never refused, or has no job.
function Returns.read(job_key)
  local kept = job_key and redis.call('HGET', job_key, RETURNS_FIELD)
  if not kept then return nil end
  local all, counted, at, gives_up, share = string.match(kept, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if not share then return nil end
  return { all = tonumber(all), counted = tonumber(counted), at = tonumber(at), gives_up = tonumber(gives_up), share = tonumber(share) }
end

-- A job that was removed meanwhile is not made anew. Returns '' where it is kept, else what is to be kept: a held call
-- gets its job after this, and its process puts it there.
function Returns.save(job_key, returns)
  local kept = string.format('%d %d %.17g %.17g %.17g', returns.all, returns.counted, returns.at, returns.gives_up, returns.share)
  if not job_key or redis.call('EXISTS', job_key) == 0 then return kept end
  redis.call('HSET', job_key, RETURNS_FIELD, kept)
  return ''
end

-- How long a call may wait for its agent, by itself or by its rules; 0 = as long as it takes.
local function longest_wait(batch, call)
  local longest = 0
  for position = CALL_METERS, #call do
    local most = batch.meters[call[position]].rule.max_wait
    if most > 0 and (longest == 0 or most < longest) then longest = most end
  end
  return longest
end

-- The refusal of a call as it is kept after it. @param counts whether it counts as a return
function Returns.after(batch, call, before, now, counts, share)
  before = before or { all = 0, counted = 0, gives_up = Line.deadline_of(call, now, longest_wait(batch, call)) }
  return { all = before.all + 1, counted = before.counted + (counts and 1 or 0), at = now, gives_up = before.gives_up, share = share }
end
end
