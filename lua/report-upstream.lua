--[[
  An agent said something about its limits. Refused (429, 503, Retry-After): the call's charge is given
  back, its agent is blocked until the given time, the factor of its limits is cut if this is news
  (lib/upstream.lua), and the call goes to the head of the block's line, unless its
  worker has lost its job: then its place is another attempt's matter. Paused: nothing is left, and
  nothing starts before a time. Observed: only what was observed is noted.

  KEYS        as in start.lua; the meter of the block is among those of the call. The last one is the
              hash of all agents, endpoints and models of which limits were observed
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of one call as JSON
  ARGV[3]     the place of the block's meter among the meters of the call
  ARGV[4]     for how long the agent asked to be left alone, in ms
  ARGV[5]     the call as JSON; '' = only report, nothing stands in line
  ARGV[6]     'refused', 'paused' or 'observed'
  ARGV[7]     by what a refusal multiplies the factor
  ARGV[8]     units per ms that were observed, by unit, as a JSON array; 0 = the agent did not say
  ARGV[9]     what was observed as JSON, '' = nothing; kept under …
  ARGV[10]    … agent, endpoint and model as JSON
  ARGV[11]    0: kept only where nothing is kept of them

  Reply       { 1 if the factor was cut, 0 if not, then what is known: Upstream.status }
  Cost        one MGET, one SET per meter, three writes to stand in line, two for what was observed
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local call = batch.calls[1]
local block = batch.meters[call[CALL_METERS + tonumber(ARGV[3]) - 1]]
local record = call[CALL_PARSED]
local till = now + tonumber(ARGV[4])

local function answer(cut)
  local reply = Upstream.status(block, now)
  table.insert(reply, 1, cut and '1' or '0')
  return reply
end

-- Answered before and the reply was lost: the call stands in line already.
if record and record.state == 'W' and not call.lost then return answer(false) end

if ARGV[9] ~= '' then
  local key = KEYS[#KEYS]
  -- Endpoints may be of any number: what was observed is kept for so many, a day after the last.
  if redis.call('HEXISTS', key, ARGV[10]) == 1 or redis.call('HLEN', key) < OBSERVED_AT_MOST then
    redis.call(ARGV[11] == '1' and 'HSET' or 'HSETNX', key, ARGV[10], ARGV[9])
    redis.call('PEXPIRE', key, '86400000')
  end
end

local started = record and record.state == 'S' and record.at or now
local cut = false
-- Before the refusal: a probe that comes back must not count as one that is under way.
Settlement.undo(batch, call, now)
if ARGV[6] == 'refused' then
  cut = Upstream.refused(block, now, till, started, tonumber(ARGV[7]))
elseif ARGV[6] == 'paused' then
  Upstream.pause(block, till)
end
Upstream.note_observed(block, cjson.decode(ARGV[8]))

if ARGV[5] ~= '' and not call.lost then
  call[CALL_JSON] = ARGV[5]
  local place = Line.next_place(call, true, now)
  Line.join(call, block, place, 0, Line.deadline_of(call, now, 0), Upstream.blocked(block, now), now)
end

Batch.save(batch)
return answer(cut)
