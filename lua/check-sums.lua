--[[
  Decides on calls that never stand in line, all at once on the sums of their costs (lib/sums.lua): all of them are
  charged and start, or the batch has to be sent to check.lua. The client sends here only calls that meet nothing but
  meters without a key of their own for single limits, no pause, and that have no record (no id of their own).

  KEYS[1..8]  as in start.lua
  KEYS[9…]    keys that hold nothing where all is plain: the ledger of the batch (held: the batch was sent before, and
              is decided already), the blocks of the calls' agents; then the state of each meter
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     JSON: { how many of the keys hold nothing, the meters as lib/sums.lua has them }
  ARGV[3]     JSON: the entries of the ledger, which is the first of these keys: { units, how many are open, how many places
              it has, entries }, see Ledger.create; '' where all calls are charged for good
  ARGV[4…]    the rules of the meters as JSON, see lib/rule.lua

  Reply       packed doubles: now, then the meters as in lib/reply.lua. Where not all have room: -1, then what stands in
              the way: the places of keys that hold something (from 1), and meters that are tight, counted behind those
              keys; nothing else where calls stand in line in this namespace
  Cost        one MGET, one SET per meter that changes, one SET per batch; a refusal writes nothing
]]
--- @include "lib/core.lua"
--- @include "lib/sums.lua"

local FIRST = 9

local function refuse(places)
  return struct.pack('<' .. string.rep('d', #places + 1), -1, unpack(places))
end

local now = Clock.now(ARGV[1])
if redis.call('EXISTS', KEYS[FIXED.LINES]) == 1 then return refuse({}) end

local given = cjson.decode(ARGV[2])
local empty, list, rules = given[1], given[2], {}
for i = 4, #ARGV do
  rules[i - 3] = Rule.of(ARGV[i])
end

local values = redis.call('MGET', unpack(KEYS, FIRST))
local in_the_way = {}
for place = 1, empty do
  if values[place] then in_the_way[#in_the_way + 1] = place end
end
if #in_the_way > 0 then return refuse(in_the_way) end

local reply = Reply.new(now)
local unsaved, tight = Sums.charge(list, rules, FIRST + empty, values, empty + 1, now, reply)
if #tight > 0 then
  for i, number in ipairs(tight) do
    tight[i] = empty + number
  end
  return refuse(tight)
end

local packed = Reply.pack(reply)
Sums.save(unsaved, now)
if ARGV[3] ~= '' then
  local units, open, places, entries = unpack(cjson.decode(ARGV[3]))
  Ledger.create(KEYS[FIRST], units, open, places, entries, now)
  Figures.opened(open, now)
end
return packed
