--[[
  An agent said something about its limits. Refused (429, 503, Retry-After): the call's charge is given
  back, its agent is blocked until the given time and the factor of its limits cut, where the refusal says
  that of the agent (lib/refusal.lua), and the call waits for its next try, unless it was refused too often, or
  its worker has lost its job: then its place is another attempt's matter. Paused: nothing is left, and
  nothing starts before a time. Observed: only what was observed is noted.

  A call that was refused beside others waits at the head of the block's line. Every other one waits in a
  line of its own until RETURN_LEAD_MS after the block has ended, longer each time: so the next probe is another
  call, where one waits. Then it goes to the head of the line of what it waits for (dispatch.lua).

  KEYS        as in start.lua; the meter of the block is among those of the call. Then the hash of all agents,
              endpoints and models of which limits were observed; with a call its own line, and its job
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of one call as JSON
  ARGV[3]     the place of the block's meter among the meters of the call
  ARGV[4]     for how long the agent asked to be left alone, in ms
  ARGV[5]     the call as JSON; '' = nothing stands in line
  ARGV[6]     'refused', 'paused' or 'observed'
  ARGV[7]     by what a refusal multiplies the factor
  ARGV[8]     units per ms that were observed, by unit, as a JSON array; 0 = the agent did not say
  ARGV[9]     what was observed as JSON, '' = nothing; kept under …
  ARGV[10]    … agent, endpoint and model as JSON
  ARGV[11]    0: kept only where nothing is kept of them
  ARGV[12]    the number of the key with the hash of what was observed; with a call the next two are its line and job
  ARGV[13]    how often a call may return, '' = there is no call

  Reply       { 1 if the factor was cut, 0 if not; kind of the refusal (REFUSAL); ms until the call's next try; how
              often the call was returned; 1 if it may not be tried again; '', or of a call without a job what its
              job is to keep of its returns; then what is known: Upstream.status }
  Cost        one MGET, one SET per meter, five writes to stand in line, two for what was observed
]]
--- @include "lib/core.lua"
--- @include "lib/returns.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now, true)
local call = batch.calls[1]
local block = batch.meters[call[CALL_METERS + tonumber(ARGV[3]) - 1]]
local record = call[CALL_PARSED]
local wait = tonumber(ARGV[4])
local observed_at, most = tonumber(ARGV[12]), tonumber(ARGV[13])
local observed_key, own_line, job_key = KEYS[observed_at], KEYS[observed_at + 1], KEYS[observed_at + 2]

local function answer(cut, kind, next_try, returns, over, unkept)
  local returned = Clock.text(returns and returns.counted or 0)
  local reply = { cut and '1' or '0', tostring(kind), Clock.text(next_try), returned, over and '1' or '0', unkept or '' }
  for _, one in ipairs(Upstream.status(block, now)) do
    reply[#reply + 1] = one
  end
  return reply
end

local before = most and Returns.read(job_key)
local open = record and record.state == 'S'
-- Answered before and the reply was lost: the call waits already, or may not return.
if most and not call.lost and not open then
  if record then
    return answer(false, REFUSAL.STALE, record.state == 'W' and Line.due_in(record.line, now) or 0, before, false)
  elseif before and before.counted > most then
    return answer(false, REFUSAL.STALE, 0, before, true)
  end
end

if ARGV[9] ~= '' then
  -- Endpoints may be of any number: what was observed is kept for so many, a day after the last.
  if redis.call('HEXISTS', observed_key, ARGV[10]) == 1 or redis.call('HLEN', observed_key) < OBSERVED_AT_MOST then
    redis.call(ARGV[11] == '1' and 'HSET' or 'HSETNX', observed_key, ARGV[10], ARGV[9])
    redis.call('PEXPIRE', observed_key, '86400000')
  end
end

-- Of a start that Redis has lost it is not known when it was: its refusal blocks nothing.
local started = open and record.at or most and 0 or now
local cut, kind, share = false, REFUSAL.BLOCKS, 1
-- Before the refusal: a probe that comes back must not count as one that is under way.
Settlement.undo(batch, call, now)
if ARGV[6] == 'refused' then
  kind, cut, share = Upstream.refused(block, now, wait, started, tonumber(ARGV[7]), before)
elseif ARGV[6] == 'paused' then
  Upstream.pause(block, now + wait)
end
Upstream.note_observed(block, cjson.decode(ARGV[8]))

if not most or call.lost then
  Batch.save(batch)
  return answer(cut, kind, Upstream.blocked(block, now), before, false)
end

if before and kind ~= REFUSAL.ALONE then share = share * before.share end
local counts = not (before and kind == REFUSAL.BESIDE and Upstream.served(block))
local returns = Returns.after(batch, call, before, now, counts, share)
local unkept = Returns.save(job_key, returns)
local over = returns.counted > most
local blocked = Upstream.blocked(block, now)
local patience = Refusal.patience(returns.all)
local next_try = blocked
if kind == REFUSAL.BLOCKS then
  next_try = math.max(blocked + RETURN_LEAD_MS, patience)
elseif kind == REFUSAL.ALONE then
  next_try = math.max(wait, patience)
elseif returns.all > 1 then
  next_try = math.max(blocked, patience)
end
if ARGV[5] ~= '' and not over then
  call[CALL_JSON] = ARGV[5]
  local place, claims = Line.next_place(call, true, now), Pass.claim_in_line(batch, call)
  if next_try <= blocked and blocked > 0 then
    Line.join(batch, call, block, place, 0, returns.gives_up, blocked, now, claims)
  else
    Line.join_at(own_line, call, place, 0, returns.gives_up, next_try + LOOKAHEAD_MS, now, claims, 0)
  end
end

Batch.save(batch)
return answer(cut, kind, next_try, returns, over, unkept)
