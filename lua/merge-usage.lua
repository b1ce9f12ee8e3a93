--[[
  Takes in what a process has used while it could not reach Redis: meters that were counted in its
  memory, and calls that were let in there and still go on, which get their entries and slots.

  KEYS        as in start.lua; the last one is a mark that it was done, so that it is done once however
              often it is sent
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON: each meter as a call without an identity that costs nothing, each call
              that goes on as itself
  ARGV[3]     how long the mark stays, in ms
  ARGV[4]     as JSON, per call of the batch: of a call that goes on 0, of one that has only been
              recorded, and holds no slots, 1; of a meter two amounts for each of its limits: what counts
              now, in full, above the limit as debt; and what may count, as far as there is room for it

  Reply       1, or 0 if it was done before
  Cost        one MGET, one SET per meter, one SET per call that goes on
]]
--- @include "lib/core.lua"

local mark = KEYS[#KEYS]
if redis.call('EXISTS', mark) == 1 then return 0 end
local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local amounts = cjson.decode(ARGV[4])

local function room_of(meter, n, limit)
  return limit.capacity - meter.kept[meter.rule.offset + n] - meter.debt[n]
end

local function merge_meter(call, counted)
  local place = 0
  Decide.each_limit(batch, call, function(meter, n, _, limit)
    local sure, perhaps = counted[place + 1] or 0, counted[place + 2] or 0
    place = place + 2
    if sure > 0 then Charge.overrun(meter, n, limit, sure, now, now, call) end
    local room = room_of(meter, n, limit)
    if perhaps > 0 and room > 0 then Charge.charge(meter, n, limit, math.min(perhaps, room), now, call) end
  end)
end

-- A call that has an entry already was charged before the outage, under an id of its own.
local function go_on(call, runs)
  if call[CALL_PARSED] then return end
  Decide.each_limit(batch, call, function(meter, n, cost, limit)
    if n > meter.rule.active then
      -- An override lifts it: as at a start.
      return
    end
    if limit.leased then
      if runs then Charge.charge(meter, n, limit, cost, now, call) end
    elseif cost > 0 then
      -- What has room is charged as at a start: a sliding log gives back what it finds under its name.
      if cost <= room_of(meter, n, limit) then
        Charge.charge(meter, n, limit, cost, now, call)
      else
        Charge.overrun(meter, n, limit, cost, now, now, call)
      end
    end
  end)
  Batch.open_entry(batch, call, now)
end

for i, call in ipairs(batch.calls) do
  if type(amounts[i]) == 'table' then
    merge_meter(call, amounts[i])
  else
    go_on(call, amounts[i] == 0)
  end
end
Batch.save(batch)
redis.call('SET', mark, '1', 'PX', ARGV[3])
return 1
