-- Sliding window: never more than `capacity` in any `window` ms. Time is cut into cells of a
-- thirty-second of the window, and a charge counts until the whole of its cell is out of the window;
-- so at most a thirty-third of the limit lies idle, and the state is bounded whatever the limit
-- (compare Cloudflare's two counters, which are smaller, and let more than the limit through when
-- calls bunch).
--   history  { cell, amount, cell, amount, … }, ascending; used is their sum
-- Overrun beyond the capacity goes into cells to come, each when room for it comes free: it keeps
-- that much room from the calls that come then, and nothing else waits for it.
do
local floor, max, min = math.floor, math.max, math.min
local wait_up, rounds_ahead, beyond_capacity = Algorithms.wait_up, Algorithms.rounds_ahead, Algorithms.beyond_capacity
local CELLS = SLIDING_CELLS

local function cell_of(limit, at)
  return floor(at * CELLS / limit.window)
end

-- When a charge in a cell counts no longer.
local function end_of_cell(limit, cell)
  return (cell + 1 + CELLS) * limit.window / CELLS
end

local function add_to_cell(history, cell, amount)
  local place = #history - 1
  while place > 0 and history[place] > cell do
    place = place - 2
  end
  if place > 0 and history[place] == cell then
    history[place + 1] = history[place + 1] + amount
  else
    table.insert(history, place + 2, cell)
    table.insert(history, place + 3, amount)
  end
end

local function take_from(history, place, amount)
  local taken = min(amount, history[place + 1])
  history[place + 1] = history[place + 1] - taken
  if history[place + 1] <= 0 then
    table.remove(history, place)
    table.remove(history, place)
  end
  return taken
end

-- The room beside all charges after a cell, up to the last.
local function room_beside(limit, history, after)
  local room, place = limit.capacity, #history - 1
  while place > 0 and history[place] > after do
    room, place = room - history[place + 1], place - 2
  end
  return max(0, room)
end

-- Debt stands in cells after the present one, each a whole round after the one before.
local function add_debt(limit, history, amount, present)
  local capacity, round = limit.capacity, CELLS + 1
  local last = #history - 1
  local cell = present
  if last > 0 and history[last] > present then
    cell = history[last]
    -- All charges less than a round before the last one count together with it.
    local fill = min(amount, room_beside(limit, history, cell - round))
    history[last + 1] = history[last + 1] + fill
    amount = amount - fill
  end
  -- One entry for all whole ones: nothing passes before the last of them ends.
  local whole = floor(amount / capacity)
  local sum = whole * capacity
  while #history > 0 and history[#history - 1] > present and history[#history] >= capacity do
    sum = sum + table.remove(history)
    table.remove(history)
  end
  cell = cell + whole * round
  if sum > 0 then add_to_cell(history, cell, sum) end
  local rest = amount - whole * capacity
  if rest > 0 then add_to_cell(history, cell + round, rest) end
end

Algorithms[ALGORITHM.SLIDING_WINDOW] = {
  open = function(_, list) return list or {} end,
  roll = function(limit, used, _, from, now, history)
    if from > now then
      -- The clock was set back: charges move along, so that they are as long ago as they were.
      local back = cell_of(limit, from) - cell_of(limit, now)
      for place = 1, #history, 2 do
        history[place] = history[place] - back
      end
    end
    local oldest, gone = cell_of(limit, now) - CELLS, 0
    while history[gone + 1] and history[gone + 1] < oldest do
      used = used - history[gone + 2]
      gone = gone + 2
    end
    if gone > 0 then
      local size = #history
      for place = 1, size do
        history[place] = history[place + gone]
      end
    end
    return #history > 0 and max(0, used) or 0, 0
  end,
  wait = function(limit, used, _, now, cost, ahead, history)
    local over = used + cost + ahead - limit.capacity
    if over <= limit.slack then return 0 end
    local rounds
    over, rounds = rounds_ahead(limit, used, over)
    for place = 1, #history, 2 do
      over = over - history[place + 1]
      if over <= limit.slack then return wait_up(end_of_cell(limit, history[place] + rounds * (CELLS + 1)) - now) end
    end
    return wait_up(end_of_cell(limit, cell_of(limit, now) + rounds * (CELLS + 1)) - now)
  end,
  ttl = function(limit, _, _, now, history)
    return #history > 0 and max(0, end_of_cell(limit, history[#history - 1]) - now) or 0
  end,
  charge = function(limit, history, used, cost, now)
    add_to_cell(history, cell_of(limit, now), cost)
    return used + cost
  end,
  overrun = function(limit, history, used, amount, at, now)
    local present, beyond = cell_of(limit, now), beyond_capacity(limit, used, amount)
    if amount > beyond then
      local charged = cell_of(limit, at)
      add_to_cell(history, charged < present - CELLS and present or charged, amount - beyond)
    end
    if beyond > 0 then add_debt(limit, history, beyond, present) end
    return used + amount
  end,
  -- Returns what is used then, and whether anything came back.
  refund = function(limit, history, used, amount, at, now)
    local present, left = cell_of(limit, now), amount
    if cell_of(limit, at) < present - CELLS then return used, false end
    while left > 0 and #history > 0 and history[#history - 1] > present do
      left = left - take_from(history, #history - 1, left)
    end
    for place = 1, #history, 2 do
      if left > 0 and history[place] == cell_of(limit, at) then
        left = left - take_from(history, place, left)
        break
      end
    end
    return #history > 0 and max(0, used - (amount - left)) or 0, left < amount
  end,
  kept = function(history) return history end,
  tells_reset = true,
  slack = Algorithms.slack_of_sum,
  rounds = true,
  slides = true,
}
end
