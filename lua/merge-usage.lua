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
              recorded, and holds no slots, 1; of a meter what was used of each of its limits: charged in
              full, above the limit as debt

  Reply       1, or 0 if it was done before
  Cost        one MGET, one SET per meter, one SET per call that goes on
]]
--- @include "lib/core.lua"

local mark = KEYS[#KEYS]
if redis.call('EXISTS', mark) == 1 then return 0 end
local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now)
local amounts = cjson.decode(ARGV[4])

local function merge_meter(call, used)
  Decide.each_limit(batch, call, function(meter, n, _, limit)
    if used[n] > 0 then Charge.overrun(meter, n, limit, used[n], now, now, call) end
  end)
end

-- A call that has an entry already was charged before the outage, under an id of its own. Where the entry is
-- that of another call, which had the id before the outage, the call is charged for good, and holds no slot.
local function go_on(call, runs)
  local is_other = Record.is_of_another(call, now)
  if call[CALL_PARSED] and not is_other then return end
  Decide.each_limit(batch, call, function(meter, n, cost, limit)
    -- An override lifts it: as at a start.
    if n > meter.rule.active then return end
    if limit.leased then
      if runs and not is_other then Charge.charge(meter, n, limit, cost, now, call) end
    elseif cost > 0 then
      -- What has room is charged as at a start: a sliding log gives back what it finds under its name.
      if cost <= limit.capacity - meter.kept[meter.rule.offset + n] - meter.debt[n] then
        Charge.charge(meter, n, limit, cost, now, call)
      else
        Charge.overrun(meter, n, limit, cost, now, now, call)
      end
    end
  end)
  if not is_other then Decide.open(batch, call, now) end
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
