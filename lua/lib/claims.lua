-- Claims: the room that a meter keeps for woken calls until they start, and, where its rule refuses calls
-- without room, for all calls that were let in and have not started.
--
-- A claim has an end of its own, CLAIM_MS after the slot of its call: from then on it counts nowhere,
-- whether it is given back or not. So a call whose job, app, worker or record is gone keeps room from
-- others for that long at most. At a meter that refuses it counts for as long as the limit remembers a
-- charge: a call that waits elsewhere will be charged there, and no call may wait for such a meter. A meter
-- has the sums of claims by their ends, which are rounded up to CLAIM_STEP_MS so that few of them differ:
--   meter.ends[id]    { end, amount, end, amount, … }   of the limit with that id, ascending. Also of limits
--                     that the rule has no more: another process may know it as it was. nil = no claims
--   meter.claimed[n]  the sum of these amounts for limit n
-- In a packed meter each such list is the history of an entry whose id is Claims.ENTRY and whose `used` is
-- the id of the limit. What single calls have claimed is remembered in their records: lib/pass.lua.
local Claims = {
  -- The id of the entries that hold claims; no limit has it. PackedMeter.OPEN is another one.
  ENTRY = 1,
}
do
local max = math.max
-- An entry of a packed meter has 255 doubles at most.
local MOST = 2 * 120
-- In so many ends, and one more, fall all claims that last as long as a limit remembers.
local ENDS_OF_MEMORY = 64
-- What sums and differences of doubles leave of an amount, as a part of what was taken off.
local RESIDUE = 2 ^ -40

-- Until when a claim for a slot counts.
function Claims.end_of(slot)
  return math.ceil((slot + CLAIM_MS) / CLAIM_STEP_MS) * CLAIM_STEP_MS
end

-- Until when a call that was let in now, and waits, counts at a limit that refuses. Rounded up, so that the
-- list of a limit stays short however long it remembers.
function Claims.end_of_memory(limit, now)
  local step = max(CLAIM_STEP_MS, limit.memory / ENDS_OF_MEMORY)
  return math.ceil((now + limit.memory) / step) * step
end

local function insert(list, ends, amount)
  local at = #list + 1
  while at > 1 and list[at - 2] > ends do
    at = at - 2
  end
  if at > 1 and list[at - 2] == ends then
    list[at - 1] = list[at - 1] + amount
    return
  end
  table.insert(list, at, amount)
  table.insert(list, at, ends)
  local size = #list
  if size > MOST then
    -- The last two become one: of these, what is not given back counts a little longer.
    list[size] = list[size] + list[size - 2]
    table.remove(list, size - 2)
    table.remove(list, size - 3)
  end
end

-- Takes an amount off the claims that count until `ends`, and, where these have become one with later
-- ones, off those.
function Claims.remove(list, ends, amount)
  local at = 1
  while at < #list do
    local left = list[at + 1] - amount
    if list[at] < ends then
      at = at + 2
    elseif left > amount * RESIDUE then
      list[at + 1] = left
      return
    else
      table.remove(list, at)
      table.remove(list, at)
      if -left <= amount * RESIDUE then return end
      amount = -left
    end
  end
end

local function recount(meter, id)
  local n, zeros = meter.rule.places[id], meter.rule.zeros
  if not n then return end
  if meter.claimed == zeros then meter.claimed = { unpack(zeros) } end
  local sum, list = 0, meter.ends[id]
  for i = 2, #list, 2 do
    sum = sum + list[i]
  end
  meter.claimed[n] = sum
end

-- @param id of the limit
function Claims.add(meter, id, amount, ends)
  meter.ends = meter.ends or {}
  meter.ends[id] = meter.ends[id] or {}
  insert(meter.ends[id], ends, amount)
  recount(meter, id)
  meter.changed = true
end

function Claims.take_off(meter, id, amount, ends)
  if not meter.ends or not meter.ends[id] then return end
  Claims.remove(meter.ends[id], ends, amount)
  recount(meter, id)
  meter.changed = true
end

-- Reads the claims of a limit that count still from an entry of a packed meter.
function Claims.unpack_entry(meter, id, list, now)
  local first = 1
  while list and list[first] and list[first] <= now do
    first = first + 2
  end
  if not list or not list[first] then return end
  meter.ends = meter.ends or {}
  meter.ends[id] = { unpack(list, first) }
  recount(meter, id)
end

-- Appends the entries that hold a meter's claims.
function Claims.pack_entries(meter, parts, pack_entry)
  for id, list in pairs(meter.ends or {}) do
    if #list > 0 then parts[#parts + 1] = pack_entry(Claims.ENTRY, id, 0, 0, list) end
  end
end

-- How long the last of a meter's claims counts in ms, 0 = it has none.
function Claims.ttl(meter, now)
  local last = now
  for _, list in pairs(meter.ends or {}) do
    if #list > 0 then last = max(last, list[#list - 1]) end
  end
  return last - now
end

function Claims.forget(meter)
  meter.ends, meter.claimed = nil, meter.rule.zeros
end
end
