-- Backlog: what calls that wait will charge a meter, in sums. One packed field per meter in the hash `queued`,
-- named after its line; it is read once by a script, and written once, however many calls join or leave.
--   meter.backlog = { count, waiting in each unit …, the largest in each unit …, in line in each unit …,
--                     kin, base, width, never, bins }
--   count, waiting, largest   of all calls that wait for this meter, whichever of their lines they stand in. Estimates
--            of times are made of them: a change of rules may make them wrong, and they refuse and admit nothing.
--            The largest are those since no call waited last
--   in line  of the calls in this meter's own line: newcomers wait behind that. Exact: they end with the line
--   kin      which meters the waiting calls have, as a hash of them; MIXED: not all of them have the same
--   bins     how many of the waiting calls have room at all their other meters by when, as they were told when they
--            joined: BINS spans of `width` ms, the first from base * width on; false = all of them by now. `never`:
--            calls that wait for something without a known end (a slot)
-- A call that leaves is taken off the first bin that is not empty: it had its room, nearly always. The hash goes
-- with the last line of the namespace.
local Backlog = { BINS = 16 }
do
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local BINS = Backlog.BINS
local WAITING, LARGEST, IN_LINE = 1, 1 + COST_UNITS, 1 + 2 * COST_UNITS
local TTL = string.format('%.0f', 30 * 86400000)
-- Beyond any wait that is told, and small enough for bins of whole numbers.
local MIXED, ALONE = string.rep('.', 16), string.rep('1', 16)
local LONGEST_MS = 2 ^ 40
-- The first width is this part of the first wait.
local FIRST_PARTS = 8
local NOTHING, NO_BINS, EMPTY = {}, {}, {}
for place = 1, 1 + 3 * COST_UNITS do EMPTY[place] = 0 end
for bin = 1, BINS do NO_BINS[bin] = 0 end

-- Of a set of units, as a mask: these units and the forms of a field with and without bins.
local forms = {}
local function form_of(mask)
  if not forms[mask] then
    local units = Record.units_of_mask(mask)
    local sums = '<Bd' .. string.rep('d', 3 * #units)
    local short = sums .. 'c16'
    forms[mask] = { units = units, short = short, size = struct.size(short), long = short .. 'ddd' .. string.rep('I4', BINS) }
  end
  return forms[mask]
end

-- Another field than that of the version before, which had the sums of a line under its name.
local function field_of(line_key)
  return line_key .. '='
end

local function empty()
  local backlog = { unpack(EMPTY) }
  backlog.never, backlog.kin, backlog.base, backlog.width, backlog.bins = 0, MIXED, 0, 1, false
  return backlog
end

local function unpack_field(packed)
  local backlog, mask = empty(), string.byte(packed)
  local form = form_of(mask)
  if #packed < form.size then return backlog end
  local values = { struct.unpack(#packed > form.size and form.long or form.short, packed) }
  backlog[1] = values[2]
  local at = 3
  for _, unit in ipairs(form.units) do
    backlog[WAITING + unit], backlog[LARGEST + unit], backlog[IN_LINE + unit] = values[at], values[at + 1], values[at + 2]
    at = at + 3
  end
  backlog.kin = values[at]
  if #packed > form.size then
    backlog.base, backlog.width, backlog.never = values[at + 1], values[at + 2], values[at + 3]
    backlog.bins = { unpack(values, at + 4, at + 3 + BINS) }
  end
  return backlog
end

local function pack_field(backlog)
  local mask = 0
  for unit = 1, COST_UNITS do
    if backlog[LARGEST + unit] > 0 or backlog[IN_LINE + unit] > 0 then mask = mask + 2 ^ (unit - 1) end
  end
  local form, values = form_of(mask), { mask, backlog[1] }
  for _, unit in ipairs(form.units) do
    local size = #values
    values[size + 1], values[size + 2], values[size + 3] = backlog[WAITING + unit], backlog[LARGEST + unit], backlog[IN_LINE + unit]
  end
  values[#values + 1] = backlog.kin
  if not backlog.bins and backlog.never == 0 then return struct.pack(form.short, unpack(values)) end
  local size, bins = #values, backlog.bins or NO_BINS
  values[size + 1], values[size + 2], values[size + 3] = backlog.base, backlog.width, backlog.never
  for bin = 1, BINS do values[size + 3 + bin] = bins[bin] end
  return struct.pack(form.long, unpack(values))
end

local function read(line_key)
  local packed = redis.call('HGET', KEYS[FIXED.QUEUED], field_of(line_key))
  return packed and unpack_field(packed) or empty()
end

local function write(line_key, backlog)
  for place = 1, 1 + 3 * COST_UNITS do
    if backlog[place] > 0 then
      redis.call('HSET', KEYS[FIXED.QUEUED], field_of(line_key), pack_field(backlog))
      return true
    end
  end
  redis.call('HDEL', KEYS[FIXED.QUEUED], field_of(line_key))
end

-- Pauses and blocks of agents charge nothing.
function Backlog.is_charged(meter)
  return meter.rule.kind ~= KIND.UPSTREAM and meter.rule.kind ~= KIND.PAUSE
end

function Backlog.of(meter)
  if not meter.backlog then meter.backlog = read(Meter.line_key(meter)) end
  return meter.backlog
end

-- What the calls in a meter's own line will charge it.
function Backlog.in_line(meter, unit)
  return Backlog.of(meter)[IN_LINE + unit]
end

-- What all waiting calls will charge a meter: how many there are, their sum, the largest.
function Backlog.waiting(meter, unit)
  local backlog = Backlog.of(meter)
  return backlog[1], backlog[WAITING + unit], backlog[LARGEST + unit]
end

-- Which meters a call has. Calls of equal ones never go before one another.
local function kin_of(batch, call)
  if not call.kin then
    local keys = {}
    for position = CALL_METERS, #call do
      local meter = batch.meters[call[position]]
      if Backlog.is_charged(meter) then keys[#keys + 1] = Meter.line_key(meter) end
    end
    call.kin = #keys > 1 and string.sub(redis.sha1hex(table.concat(keys, '\n')), 1, 16) or ALONE
  end
  return call.kin
end

-- How many of the calls that wait for a meter may still have no room at their others so many ms from now, where
-- those are not the same as the others of the call.
function Backlog.blocked(batch, call, meter, wait)
  local backlog, now = Backlog.of(meter), batch.now
  if not backlog.bins and backlog.never == 0 or backlog.kin == kin_of(batch, call) then return 0 end
  local blocked, bins = backlog.never, backlog.bins
  local last = bins and floor((now + wait) / backlog.width) - backlog.base or BINS
  for bin = max(1, last + 1), BINS do blocked = blocked + bins[bin] end
  return blocked
end

-- Makes each bin of two, from a base on of which two are one.
local function widen(backlog)
  local bins, base, wider = backlog.bins, floor(backlog.base / 2), { unpack(NO_BINS) }
  for bin = 1, BINS do
    local at = floor((backlog.base + bin - 1) / 2) - base + 1
    wider[at] = wider[at] + bins[bin]
  end
  backlog.bins, backlog.base, backlog.width = wider, base, backlog.width * 2
end

-- What has passed is one bin.
local function forget_past(backlog, now)
  local bins, passed = backlog.bins, min(BINS, floor(now / backlog.width) - backlog.base)
  if passed <= 0 then return end
  local sum = 0
  for bin = 1, min(BINS, passed + 1) do sum = sum + bins[bin] end
  for bin = 1, BINS do bins[bin] = bins[bin + passed] or 0 end
  bins[1], backlog.base = sum, floor(now / backlog.width)
end

-- A call that has room at its other meters after a wait.
local function add_to_bin(backlog, now, wait)
  if wait >= LONGEST_MS then
    backlog.never = backlog.never + 1
    return
  end
  if not backlog.bins then
    if wait <= 0 then return end
    backlog.width = max(1, ceil(wait / FIRST_PARTS))
    backlog.base = floor(now / backlog.width)
    backlog.bins = { unpack(NO_BINS) }
    backlog.bins[1] = max(0, backlog[1] - backlog.never)
  end
  if floor((now + wait) / backlog.width) - backlog.base >= BINS then forget_past(backlog, now) end
  while floor((now + wait) / backlog.width) - backlog.base >= BINS do widen(backlog) end
  local bin = max(0, floor((now + wait) / backlog.width) - backlog.base) + 1
  backlog.bins[bin] = backlog.bins[bin] + 1
end

local function take_from_bin(backlog)
  local bins = backlog.bins
  for bin = 1, bins and BINS or 0 do
    if bins[bin] > 0 then
      bins[bin] = bins[bin] - 1
      return
    end
  end
  if backlog[1] < backlog.never then backlog.never = backlog.never - 1 end
end

-- Of a call and one of its meters: the longest of the waits at its others. `call.waits` has them by meter, where it
-- was told when it starts (lib/estimate.lua).
local function wait_elsewhere(call, meter)
  local longest = 0
  for other, wait in pairs(call.waits or NOTHING) do
    if other ~= meter then longest = max(longest, wait) end
  end
  return longest
end

local function changed(batch, meter)
  batch.backlogs = batch.backlogs or {}
  batch.backlogs[meter] = true
end

-- A call begins to wait (sign 1), or waits no more (-1).
function Backlog.add(batch, call, sign)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    if Backlog.is_charged(meter) then
      local backlog = Backlog.of(meter)
      if sign > 0 then add_to_bin(backlog, batch.now, wait_elsewhere(call, meter)) end
      if sign > 0 then backlog.kin = (backlog[1] == 0 or backlog.kin == kin_of(batch, call)) and kin_of(batch, call) or MIXED end
      backlog[1] = max(0, backlog[1] + sign)
      if sign < 0 then take_from_bin(backlog) end
      for unit = 1, COST_UNITS do
        local cost = call[CALL_COST + unit]
        if cost > 0 then
          backlog[WAITING + unit] = max(0, backlog[WAITING + unit] + sign * cost)
          backlog[LARGEST + unit] = max(backlog[LARGEST + unit], cost)
        end
      end
      if backlog[1] == 0 then
        for place = WAITING + 1, IN_LINE do backlog[place] = 0 end
        backlog.bins, backlog.never = false, 0
      end
      changed(batch, meter)
    end
  end
end

-- A call joins (sign 1) or leaves (-1) the line of a meter.
function Backlog.add_in_line(batch, call, meter, sign)
  local backlog = Backlog.of(meter)
  for unit = 1, COST_UNITS do
    backlog[IN_LINE + unit] = max(0, backlog[IN_LINE + unit] + sign * call[CALL_COST + unit])
  end
  changed(batch, meter)
end

local function meter_at(batch, line_key)
  for _, meter in ipairs(batch.meters) do
    if Meter.line_key(meter) == line_key then return meter end
  end
end

-- The same for a line that need not be that of a meter of the call.
-- @param own the meter of the call that has the line, nil = none of its meters
function Backlog.leaves_line(batch, call, line_key, own)
  local meter = own or meter_at(batch, line_key)
  if meter then return Backlog.add_in_line(batch, call, meter, -1) end
  local backlog = read(line_key)
  for unit = 1, COST_UNITS do
    backlog[IN_LINE + unit] = max(0, backlog[IN_LINE + unit] - call[CALL_COST + unit])
  end
  write(line_key, backlog)
end

-- A line is empty: nothing stands there, whatever sums of fractions have left.
function Backlog.line_ends(batch, line_key)
  local meter = meter_at(batch, line_key)
  local backlog = meter and Backlog.of(meter) or read(line_key)
  for unit = 1, COST_UNITS do backlog[IN_LINE + unit] = 0 end
  if meter then return changed(batch, meter) end
  write(line_key, backlog)
end

-- No call waits any more.
function Backlog.forget(batch)
  redis.call('DEL', KEYS[FIXED.QUEUED])
  for _, meter in ipairs(batch.meters) do meter.backlog = nil end
  batch.backlogs = nil
end

function Backlog.save(batch)
  if not batch.backlogs then return end
  local any = false
  for meter in pairs(batch.backlogs) do
    any = write(Meter.line_key(meter), meter.backlog) or any
  end
  if any then redis.call('PEXPIRE', KEYS[FIXED.QUEUED], TTL) end
end
end
