-- Refusal: what the refusal of a call says of its agent, by the block that lib/upstream.lua keeps. It is one of
-- four things (REFUSAL):
--   BLOCKS   the agent refuses calls: it is blocked for the time that it asked for, and for twice as long each
--            time while no call passes
--   BESIDE   its call was in flight when the agent was blocked: that block lasts as long as the latest asks
--   STALE    its call started before a block that has ended, or before a probe: it says nothing of now
--   ALONE    its call was refused before, and others have passed since: the agent takes calls, and not this one.
--            Nothing is blocked, and what the first refusal of the call has cut is given back
-- Of several calls that the agent does not take each is refused alone. Many in a row, none of them passing, are a
-- sign of the agent after all: it blocks.
local Refusal = {}
do
local max, min = math.max, math.min
local UNTIL, FACTOR, SINCE, STABLE_FACTOR, BACKOFF = Recovery.UNTIL, Recovery.FACTOR, Recovery.SINCE, Recovery.STABLE_FACTOR, Recovery.BACKOFF
local PROBE_END, PROBE_AT, CUT_AT, EVENT_AT, PASSED = Recovery.PROBE_END, Recovery.PROBE_AT, Recovery.CUT_AT, Recovery.EVENT_AT, Recovery.PASSED
local ALONE, ALONE_AT, REFUSED, SERVED = Recovery.ALONE, Recovery.ALONE_AT, Recovery.REFUSED, Recovery.SERVED
local MOST_BACKOFF, LEAST_FACTOR = 10, 0.01
-- So many calls have to pass before a cut is given back, and before the next block is as short as its agent says.
local ENOUGH_PASSED = 3
-- So many calls in a row are taken to be refused alone.
local MOST_ALONE = 5
-- A factor that calls have passed at for so long has held: longer than the windows of a minute that agents count in, so a
-- rate that is too high for one would have been refused before.
local HELD_MS = 75000
-- A block of which the cut was given back is kept until the call that is refused alone has come back.
local REMEMBERED_MS = 60000

-- How long is waited at least after so many refusals in a row, in ms.
function Refusal.patience(refusals)
  return refusals > 0 and min(LONGEST_PATIENCE_MS, PATIENCE_MS * 2 ^ (refusals - 1)) or 0
end

-- A call that started at a time passed. Returns whether that is news.
function Refusal.note_passed(block, started)
  if started < block[EVENT_AT] or (block[PASSED] >= ENOUGH_PASSED and block[ALONE] == 0) then return false end
  block[PASSED], block[ALONE] = min(ENOUGH_PASSED, block[PASSED] + 1), 0
  if block[PASSED] >= ENOUGH_PASSED then block[REFUSED] = 0 end
  return true
end

-- @param before what is kept of earlier refusals of the call (lib/returns.lua), nil = there was none
function Refusal.kind_of(block, now, started, before)
  local recovering = block[SINCE] > 0
  if started < block[PROBE_AT] or (block[UNTIL] <= now and started < block[UNTIL]) then return REFUSAL.STALE end
  local probe = not recovering and block[PROBE_AT] > 0 and started == block[PROBE_AT]
  if block[FACTOR] < 1 and not probe and started < (recovering and block[SINCE] or block[UNTIL]) then return REFUSAL.BESIDE end
  if not before or not recovering or started < block[SINCE] or block[UNTIL] > now or block[PASSED] == 0 then return REFUSAL.BLOCKS end
  local counted = block[ALONE] > 0 and before.at >= block[ALONE_AT]
  return (counted or block[ALONE] < MOST_ALONE) and REFUSAL.ALONE or REFUSAL.BLOCKS
end

-- Returns the part that the cut of the call's first refusal still leaves of the factor.
function Refusal.alone(block, now, wait, before)
  if block[ALONE] == 0 then block[ALONE_AT] = now end
  if block[ALONE] == 0 or before.at < block[ALONE_AT] then block[ALONE] = block[ALONE] + 1 end
  local share = before.share
  if share < 1 and block[PASSED] >= ENOUGH_PASSED then
    block[FACTOR], share = min(1, block[FACTOR] / share), 1
    block.over = block[SINCE] + Recovery.duration(block)
  end
  block.over = max(block.over, now + wait + REMEMBERED_MS)
  return share
end

-- A call that started at a time was refused while the agent recovered: the factor to go on with.
local function cut_again(block, started, reduce)
  local steps = Recovery.steps_until(block, started)
  if steps >= 1 then
    -- The factor before the last step had held: back to it, and a longer time until the next try.
    block[FACTOR] = Recovery.factor_after(block, steps - 1)
    block[STABLE_FACTOR] = block[FACTOR]
    block[BACKOFF] = min(MOST_BACKOFF, block[BACKOFF] * 2)
  elseif block[STABLE_FACTOR] > 0 and block[FACTOR] <= block[STABLE_FACTOR] then
    -- This factor held before: one refusal at it is put down to the larger factor that was tried, and cuts
    -- nothing.
    block[STABLE_FACTOR] = 0
  elseif started - block[SINCE] >= HELD_MS and block[PASSED] >= ENOUGH_PASSED then
    -- Neither the factor nor its growth is to blame: an agent that refuses now and then, whatever the rate, would be cut
    -- to next to nothing.
    block[BACKOFF] = 1
  else
    block[FACTOR], block[STABLE_FACTOR] = max(LEAST_FACTOR, block[FACTOR] * reduce), 0
  end
end

-- The agent is blocked. A refused probe cuts nothing, since that it came too early says nothing about the rate.
-- Returns whether the factor was cut, and the part that is left of it.
function Refusal.blocks(block, now, wait, started, reduce)
  local recovering = block[SINCE] > 0
  local cut = block[FACTOR] >= 1 or (recovering and started >= block[SINCE])
  local factor = Recovery.factor_at(block, now)
  if block[FACTOR] >= 1 then
    block[FACTOR], block[STABLE_FACTOR], block[BACKOFF] = max(LEAST_FACTOR, reduce), 0, 1
  elseif cut then
    cut_again(block, started, reduce)
  elseif recovering then
    block[FACTOR] = factor
  end
  if cut then block[CUT_AT] = now end
  if recovering then block[PROBE_END] = 0 end
  block[UNTIL] = max(block[UNTIL], now + max(wait, Refusal.patience(block[REFUSED])))
  block[SERVED], block[REFUSED] = block[PASSED] > 0 and 1 or 0, block[REFUSED] + 1
  block[EVENT_AT], block[PASSED], block[ALONE] = now, 0, 0
  return cut, cut and min(1, block[FACTOR] / factor) or 1
end
end
