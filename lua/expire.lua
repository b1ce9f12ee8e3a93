--[[
  Takes calls out of their lines whose deadlines have passed. Each becomes a pass without
  room: its job is promoted, and the worker that takes it finds that it is too late.

  KEYS        as in admit.lua, and the lines
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON
  ARGV[3]     pass check in ms: when to look after a pass that has not been taken
  ARGV[4…]    per call the key of the line it stands in; declared among KEYS

  Reply       ids of those that were taken out
  Cost        one MGET, five writes per call
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local pass_check = tonumber(ARGV[3])
local expired = {}

for i, call in ipairs(batch.calls) do
  local record, line_key = call[CALL_PARSED], ARGV[3 + i]
  if not record or record.state ~= 'W' then
    -- It has left its line since; or nobody knows it any more.
    redis.call('ZREM', KEYS[7], call[CALL_ID])
  elseif record.line == line_key and record.deadline <= now then
    leave_line(line_key, call)
    record.slot, record.granted, record.claims = now, now, false
    save_passed(call[CALL_RECORD_KEY], record)
    redis.call('ZADD', KEYS[2], text(now + pass_check), call[CALL_ID])
    if redis.call('EXISTS', line_key) == 1 then
      -- Whoever is first now may need less room.
      redis.call('ZADD', KEYS[1], 'LT', text(now), line_key)
    end
    expired[#expired + 1] = call[CALL_ID]
  end
end

return expired
