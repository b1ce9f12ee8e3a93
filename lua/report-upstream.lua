--[[
  What an agent said about its limits. Refused (429, 503, Retry-After): what the call was
  charged is given back, the agent's meter is blocked until the given time (a shorter block
  never shortens a longer one), its capacity is cut if this is news (see lib/upstream.lua), and
  the call goes to the head of that meter's line. Paused: nothing is left, nobody is to go
  before a time. Else only what was observed is noted.

  KEYS        as in admit.lua; the block's meter is among those of the call. The last one is the
              hash of all agents, endpoints and models of which limits were observed
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of one call as JSON
  ARGV[3]     the place of the block's meter in the call's demand
  ARGV[4]     for how long the agent asked to be left alone, in ms
  ARGV[5]     lookahead in ms
  ARGV[6]     the call as JSON; '' = only announce, nothing stands in line
  ARGV[7]     'refused', 'paused' or 'observed'
  ARGV[8]     by what a refusal multiplies the capacity
  ARGV[9]     units per ms that were observed, by unit, as a JSON array; 0 = not said
  ARGV[10]    what was observed as JSON, '' = nothing; kept under …
  ARGV[11]    … agent, endpoint and model as JSON
  ARGV[12]    0: only where nothing is kept of them

  Reply       { 1 if it was cut, 0 if not, then what is known: see lib/canary.lua }
  Cost        one MGET, one SET per meter, three writes to stand in line, two for what was observed
]]
--- @include "lib/core.lua"

-- Endpoints may be of any number: of so many it is kept what was observed, each for a day after the last.
local OBSERVED_AT_MOST, OBSERVED_TTL = 1000, '86400000'

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local call = batch.calls[1]
local block = batch.meters[call[CALL_METERS + tonumber(ARGV[3]) - 1]]
local record = call[CALL_PARSED]
local retry = tonumber(ARGV[4])

local function answer(cut)
  local reply = upstream.tell_block(block, now)
  table.insert(reply, 1, cut and '1' or '0')
  return reply
end

-- Answered before and the reply was lost: it stands in line already.
if record and record.state == 'W' then
  return answer(false)
end

if ARGV[10] ~= '' then
  local key = KEYS[#KEYS]
  if redis.call('HEXISTS', key, ARGV[11]) == 1 or redis.call('HLEN', key) < OBSERVED_AT_MOST then
    redis.call(ARGV[12] == '1' and 'HSET' or 'HSETNX', key, ARGV[11], ARGV[10])
    redis.call('PEXPIRE', key, OBSERVED_TTL)
  end
end

local started = record and record.state == 'S' and record.at or now
local cut = false
-- Before the refusal: a canary that comes back must not count as one that is under way.
settle_as_nothing(batch, call, now)
if ARGV[7] == 'refused' then
  cut = upstream.refused(block, now, now + retry, started, tonumber(ARGV[8]))
elseif ARGV[7] == 'paused' then
  upstream.pause(block, now, now + retry)
end
upstream.note_observed(block, cjson.decode(ARGV[9]))

if ARGV[6] ~= '' then
  call[CALL_JSON] = ARGV[6]
  local history = block.histories[1]
  local wait = max(0, history[upstream.UNTIL] - now)
  join_line(call, block, next_place(call[CALL_PRIORITY], true, now), 0, deadline_of(call, now, 0), wait, now, tonumber(ARGV[5]))
end

save_changed(batch, now)
return answer(cut)
