-- Waiting: what the calls in lines will charge a meter, whichever of their lines they stand in. Only
-- estimates of times are made of it: a sum that a change of rules has made wrong refuses and admits nothing.
--   meter.waiting = { count, cost in each unit …, the largest cost in each unit … }
-- It stands packed in the hash `queued` (lib/line.lua), beside the costs of the meter's own line, and goes when
-- its count is 0 or no line is left. The largest costs are those since it was empty last.
local Waiting = { TTL = string.format('%.0f', 30 * 86400000) }
do
local max = math.max
local FIELDS = 1 + 2 * COST_UNITS
local FORMAT = '<' .. string.rep('d', FIELDS)
local NOTHING = {}
for field = 1, FIELDS do NOTHING[field] = 0 end

local function field_of(meter)
  return Meter.line_key(meter) .. '+'
end

-- Pauses and blocks of agents charge nothing.
function Waiting.is_charged(meter)
  return meter.rule.kind ~= KIND.UPSTREAM and meter.rule.kind ~= KIND.PAUSE
end

function Waiting.of(meter)
  if not meter.waiting then
    local packed = redis.call('HGET', KEYS[FIXED.QUEUED], field_of(meter))
    meter.waiting = packed and { struct.unpack(FORMAT, packed) } or NOTHING
  end
  return meter.waiting
end

-- A call joins (sign 1) or leaves (-1) a line.
function Waiting.add(batch, call, sign)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if Waiting.is_charged(meter) then
      local before, after = Waiting.of(meter), {}
      after[1] = max(0, before[1] + sign)
      for unit = 1, COST_UNITS do
        local cost = call[CALL_COST + unit]
        after[1 + unit] = max(0, before[1 + unit] + sign * cost)
        after[1 + COST_UNITS + unit] = max(before[1 + COST_UNITS + unit], cost)
      end
      meter.waiting, batch.waiting_changed = after, batch.waiting_changed or {}
      batch.waiting_changed[meter] = true
    end
  end
end

function Waiting.save(batch)
  if not batch.waiting_changed then return end
  local key = KEYS[FIXED.QUEUED]
  for meter in pairs(batch.waiting_changed) do
    if meter.waiting[1] > 0 then
      redis.call('HSET', key, field_of(meter), struct.pack(FORMAT, unpack(meter.waiting, 1, FIELDS)))
    else
      redis.call('HDEL', key, field_of(meter))
    end
  end
  if redis.call('EXISTS', KEYS[FIXED.LINES]) == 0 then
    redis.call('DEL', key)
  else
    redis.call('PEXPIRE', key, Waiting.TTL)
  end
end
end
