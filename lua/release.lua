--[[
  Gives back all that a call holds, whatever its state: its place in line, the room
  its pass claims, or what its start was charged (to the window that was charged).

  KEYS        as in admit.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; a token of '' releases calls that have not started only
  ARGV[3…]    per call the key of the line it stands in, '' = none; declared among KEYS

  Reply       per call 'W', 'P' or 'S' as it was, '-' if it held nothing, 'R' if it has
              started under another token (it runs: abort it instead)
  Cost        one MGET, one SET per meter that changes, one DEL per call
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local reply = {}

local function release(call, line_key)
  local record = call[CALL_PARSED]
  if record.state == 'S' then
    return settle_as_nothing(batch, call, now) and 'S' or 'R'
  end
  if record.state == 'P' then
    if record.claims then
      unclaim(batch, call)
    end
    redis.call('ZREM', KEYS[2], call[CALL_ID])
    stir_all(batch, call, now)
  elseif record.line == line_key then
    leave_line(line_key, call)
  end
  drop_record(batch, call)
  return record.state
end

for i, call in ipairs(batch.calls) do
  reply[i] = call[CALL_PARSED] and release(call, ARGV[2 + i]) or '-'
end

save_changed(batch, now)
return reply
