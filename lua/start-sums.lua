--[[
  Settles calls of a worker that have ended, then starts others all at once on the sums of their costs (lib/sums.lua),
  or none of them: these have to be sent to start.lua. The client sends here only starts that meet nothing but meters
  without a key of their own for single limits, no pause, and that have no deadline.

  KEYS        as in start.lua; the ledger of the starts, their records and the locks of their jobs are not in the batch
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON, see lib/batch.lua: the calls that have ended, no others; meters of all
  ARGV[3]     JSON: { the meters of the starts as lib/sums.lua has them, with a number in the batch in the place of the
              rule; the keys that hold nothing where these are newcomers whose agents have said nothing: the ledger first,
              the records, the blocks; { key of a lock, what it holds, … } }
  ARGV[4]     the entries of the ledger as in check-sums.lua

  Reply       packed doubles: now, then the meters of the batch as in lib/reply.lua. Where not all start: -1, then the
              meters that are tight, by their numbers
  Cost        two MGETs, one SET per meter that changes, one or two SETs per batch
]]
--- @include "lib/core.lua"
--- @include "lib/sums.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local is_copy = Batch.is_late_copy(batch.sender)
for _, call in ipairs(batch.ended) do
  Settlement.finish(batch, call, now)
end
local list, empty, locks = unpack(cjson.decode(ARGV[3]))

-- Whether all starts are newcomers whose jobs are still their worker's, and nothing is to be heard of their agents.
local function are_plain()
  if is_copy or batch.any_line then return false end
  local keys, count = {}, #empty
  for i = 1, count do
    keys[i] = KEYS[empty[i]]
  end
  for i = 1, #locks, 2 do
    keys[#keys + 1] = KEYS[locks[i]]
  end
  local values = redis.call('MGET', unpack(keys))
  for i = 1, count do
    if values[i] then return false end
  end
  for i = 1, #locks, 2 do
    count = count + 1
    if values[count] ~= locks[i + 1] then return false end
  end
  return true
end

local function refuse(tight)
  Batch.save(batch)
  return struct.pack('<' .. string.rep('d', #tight + 1), -1, unpack(tight))
end

if not are_plain() then return refuse({}) end
local tight = Sums.tight(batch.meters, list, now)
if #tight > 0 then return refuse(tight) end

Sums.charge_all(batch.meters, list, now)
local units, open, places, entries = unpack(cjson.decode(ARGV[4]))
Ledger.create(KEYS[empty[1]], units, open, places, entries, now)
Figures.count_open(batch, now, open)
return Reply.save(Reply.new(now), batch)
