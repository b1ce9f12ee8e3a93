--[[
  Takes calls out of their lines whose deadlines have passed. Each becomes a pass without room: its job
  is promoted, and the worker that takes it finds that it is too late.

  KEYS        as in start.lua, the lines, and the meters that the calls have claims at
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON
  ARGV[3…]    per call the key of the line it stands in; declared among KEYS

  Reply       ids of the calls that were taken out
  Cost        one MGET, five writes per call, one SET per meter that changes
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local text = Clock.text
local expired = {}

for i, call in ipairs(batch.calls) do
  local record, line_key = call[CALL_PARSED], ARGV[2 + i]
  if not record or record.state ~= 'W' then
    -- It has left its line since, or its record is gone.
    redis.call('ZREM', KEYS[FIXED.DEADLINES], call[CALL_ID])
  elseif record.line == line_key and record.deadline <= now then
    Line.leave(batch, line_key, call)
    Pass.let_go(batch, call, record, now)
    Pass.give(batch, call, record, now, nil, now + PASS_CHECK_MS)
    if redis.call('EXISTS', line_key) == 1 then
      -- The call that is first now may need less room.
      redis.call('ZADD', KEYS[FIXED.LINES], 'LT', text(now), line_key)
    end
    expired[#expired + 1] = call[CALL_ID]
  end
end

Batch.save(batch)
return expired
