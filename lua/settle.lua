--[[
  Settles started calls, see lib/settlement.lua.

  KEYS        as in start.lua
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; the costs are what they really are, -1 = as estimated
  ARGV[3]     'end'; 'part': the calls go on, and have cost so much by now; 'cost': the calls have been
              ended, and their handlers go on, so that they keep their slots; 'slots': those handlers have
              ended, too

  Reply       per call 1 if it was settled, or had slots to give back, 2 if the open entry under its id is
              that of another call, else 0
  Cost        one MGET, one SET per meter that changes, one SETRANGE per entry
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now, true)
local HOW = { ['end'] = Settlement.finish, part = Settlement.part, cost = Settlement.finish_cost, slots = Settlement.free_slots }
local settle_one = HOW[ARGV[3]]
local reply = {}
for i, call in ipairs(batch.calls) do
  reply[i] = settle_one(batch, call, now) and 1 or Record.is_of_another(call, now) and 2 or 0
end
Batch.save(batch)
return reply
