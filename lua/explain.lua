--[[
  When calls that wait start, by the estimator that told them at the front door (lib/estimate.lua), each at the
  place where it stands. Changes nothing.

  KEYS        as in start.lua, without locks; then the lines of calls that stand in one that is none of their meters'
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua
  ARGV[3…]    per call 1 if it stands in a line of its own (its agent has refused it), else 0

  Reply       packed doubles, see lib/reply.lua: WAIT of calls in line, RUN of all others. In the line of its queue,
              or in one of its own, nothing binds a call but the limits that have no room for it, and its latest
              start is not known
  Cost        one MGET, one ZCARD, ZCOUNT and HGET per meter and call at most; no write
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local reply = Reply.new(now)

local function explain(call, is_own)
  local record = call[CALL_PARSED]
  if not record or record.state ~= 'W' then return Reply.add(reply, OUTCOME.RUN) end
  if is_own then return Reply.add(reply, OUTCOME.WAIT, Line.due_in(record.line, now), nil, 0) end
  local own, rank = Line.own(batch, call)
  local wait, most, binding = Estimate.at_place(batch, call, now, record.place)
  if own then return Reply.add(reply, OUTCOME.WAIT, wait, binding, rank, nil, most) end
  rank = Batch.declares(batch, record.line) and redis.call('ZRANK', record.line, call[CALL_ID]) or nil
  Reply.add(reply, OUTCOME.WAIT, binding and wait or -1, binding, rank)
end

for i, call in ipairs(batch.calls) do
  explain(call, ARGV[2 + i] == '1')
end

Reply.add_meters(reply, batch.meters)
return Reply.pack(reply)
