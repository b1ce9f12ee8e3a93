--[[
  An agent said "not now" (429, 503, Retry-After): gives back what the call was charged,
  blocks the agent's meter until the given time (a shorter block never shortens a longer
  one) and puts the call at the head of that meter's line.

  KEYS        as in admit.lua; the block's meter is among those of the call
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     a batch of one call as JSON
  ARGV[3]     the place of the block's meter in the call's demand
  ARGV[4]     for how long the agent asked to be left alone, in ms
  ARGV[5]     lookahead in ms
  ARGV[6]     the call as JSON; '' = only announce, nothing stands in line

  Reply       { now, ms until the block ends }
  Cost        one MGET, one SET per meter, three writes to stand in line
]]
--- @include "lib/core.lua"

local now = clock(ARGV[1])
local batch = load_batch(ARGV[2], now)
local call = batch.calls[1]
local block = batch.meters[call[CALL_METERS + tonumber(ARGV[3]) - 1]]
local record = call[CALL_PARSED]

local until_at = block.rule.offset + 1

-- Answered before and the reply was lost: it stands in line already.
if record and record.state == 'W' then
  return { text(now), text(max(0, block.kept[until_at] - now)) }
end

block.kept[until_at] = max(block.kept[until_at], now + tonumber(ARGV[4]))
block.changed = true
local blocked = block.kept[until_at] - now

settle_as_nothing(batch, call, now)
if ARGV[6] ~= '' then
  call[CALL_JSON] = ARGV[6]
  join_line(call, block, next_place(call[CALL_PRIORITY], true, now), 0, call.deadline or 0, blocked, now, tonumber(ARGV[5]))
end

save_changed(batch, now)
return { text(now), text(blocked) }
