--[[
  Tries an algorithm of a user's own, before rules may name it: the answers of its Lua to questions whose answers by its
  twin are known (src/limits/try-algorithm.ts).

  KEYS[1]     any key of the namespace, which is not touched: on a cluster it chooses the server
  ARGV[1]     the text of the module
  ARGV[2]     JSON: a list of { limit, steps }. limit = { capacity, rate, windowMs }, a step is the name of a function and
              its arguments behind limit and state. Each list of steps begins with an empty state

  Reply       the answers as text, one after the other: a number; of charge and refund what is used then. The last one
              begins with ! where something failed, and says what
  Cost        no command
]]
--- @include "lib/core.lua"

local reply = {}
local module, fault = Algorithms.compile(ARGV[1])
if not module then return { '!' .. tostring(fault) } end
for _, trial in ipairs(cjson.decode(ARGV[2])) do
  local limit, state = trial[1], {}
  for _, step in ipairs(trial[2]) do
    local name, now, answer = step[1], step[2], nil
    if name == 'charge' or name == 'refund' then
      local changed
      changed, fault = Algorithms.change(module, name, limit, state, unpack(step, 2))
      state = changed or state
      if changed then answer, fault = Algorithms.ask(module, 'used', math.huge, limit, state, now) end
    else
      answer, fault = Algorithms.ask(module, name, math.huge, limit, state, unpack(step, 2))
    end
    if not answer then
      reply[#reply + 1] = '!' .. tostring(fault)
      return reply
    end
    reply[#reply + 1] = Clock.text(answer)
  end
end
return reply
