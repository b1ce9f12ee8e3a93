-- Custom: an algorithm of a user's own. Its rule brings it along, as the text of a Lua module that returns
--   used(limit, state, now)                 what is used; 0 where the state counts nothing any more
--   waitMs(limit, state, now, cost, ahead)  ms until the cost fits behind what others have a right to first; 0 = now
--   charge(limit, state, now, amount)       changes the state, whether there is room or not
--   refund(limit, state, now, amount, at)   gives back of what was charged at a time; may be left out: nothing comes back
--   resetMs(limit, state, now)              ms until nothing is used, if nothing else is charged
-- with limit = { capacity, rate, windowMs } and state = a list of numbers, {} where nothing is used. The twin is the
-- object of the same functions in TypeScript (src/limits/algorithms/custom.ts).
--   history  { state, shift, last }: `shift` is added to the time where the clock was set back, `last` is the time of
--            the last charge: the time that a module gets never goes back
-- A module sees Lua's own functions and nothing of Redis, so it reaches no key. Where it fails, or answers no number, its
-- limit has no room for a moment, and nothing else of the batch is hurt: Redis' log says why.
do
local max, min, wait_up = math.max, math.min, Algorithms.wait_up
-- Names that a module does not see.
local HIDDEN = 'local redis, server, KEYS, ARGV, cjson, cmsgpack, bit, struct, os, load, loadstring, getmetatable, setmetatable, '
  .. 'rawset, rawget, collectgarbage, _G, getfenv, setfenv = nil; '
local LOG_EVERY_MS = 10000
local logged_at = -LOG_EVERY_MS

local function log(fault, now)
  if math.abs(now - logged_at) < LOG_EVERY_MS then return end
  logged_at = now
  redis.log(redis.LOG_WARNING, 'tollgate: an algorithm of a rule failed: ' .. tostring(fault))
end

-- The module of a text; nil and why, where it is none.
function Algorithms.compile(text)
  local chunk, fault = loadstring(HIDDEN .. text, '=lua')
  if not chunk then return nil, fault end
  local ok, module = pcall(chunk)
  if not ok then return nil, module end
  if type(module) ~= 'table' then return nil, 'lua must return a table' end
  for _, name in ipairs({ 'used', 'waitMs', 'charge', 'resetMs' }) do
    if type(module[name]) ~= 'function' then return nil, 'lua must return a table with the function ' .. name end
  end
  return module
end

local function is_state(state)
  local count = 0
  for _ in pairs(state) do count = count + 1 end
  if count > STATE_AT_MOST then return false end
  for n = 1, count do
    if type(state[n]) ~= 'number' or state[n] - state[n] ~= 0 then return false end
  end
  return true
end

-- What a function of a module answers: a number from 0 on, at most so many; nil and why, where it fails.
function Algorithms.ask(module, name, most, ...)
  local ok, answer = pcall(module[name], ...)
  if not ok then return nil, answer end
  if type(answer) ~= 'number' or not (answer >= 0) then return nil, name .. ' must answer a number from 0 on, not ' .. tostring(answer) end
  return min(answer, most)
end

-- The state after a function has changed a copy of it; nil and why, where it fails.
function Algorithms.change(module, name, limit, state, ...)
  local changed = { unpack(state) }
  local ok, fault = pcall(module[name], limit, changed, ...)
  if not ok then return nil, fault end
  if not is_state(changed) then return nil, name .. ' must leave a list of at most ' .. STATE_AT_MOST .. ' numbers' end
  return changed
end

local function time_of(history, now)
  return max(now + history.shift, history.last)
end

local function ask(limit, history, now, name, most, otherwise, ...)
  local answer, fault = Algorithms.ask(limit.module, name, most, limit.numbers, history.state, time_of(history, now), ...)
  if answer then return answer end
  log(fault, now)
  return otherwise
end

-- A state that counts nothing is forgotten, as its meter is.
local function used_of(limit, history, now)
  local used = ask(limit, history, now, 'used', NO_BOUND, limit.capacity)
  if used <= 0 then history.state, history.shift, history.last = {}, 0, 0 end
  return used
end

-- Returns what is used then, and whether anything was changed.
local function change(limit, history, used, now, name, ...)
  local at = time_of(history, now)
  local state, fault = Algorithms.change(limit.module, name, limit.numbers, history.state, at, ...)
  if not state then
    log(fault, now)
    return used, false
  end
  history.state, history.last = state, at
  return used_of(limit, history, now), true
end

Algorithms[ALGORITHM.CUSTOM] = {
  prepare = function(limit, given)
    local fault
    limit.rate = given[LIMIT.CUSTOM_RATE]
    limit.numbers = { capacity = given[LIMIT.OWN_CAPACITY] or limit.capacity, rate = limit.rate, windowMs = limit.window }
    limit.module, fault = Algorithms.compile(given[LIMIT.LUA])
    if not limit.module then
      local function fail() error(fault, 0) end
      limit.module = { used = fail, waitMs = fail, charge = fail, resetMs = fail }
    end
  end,
  open = function(_, list)
    if not list then return { state = {}, shift = 0, last = 0 } end
    return { state = { unpack(list, 3) }, shift = list[1], last = list[2] }
  end,
  roll = function(limit, _, _, from, now, history)
    if from > now then history.shift = history.shift + from - now end
    return used_of(limit, history, now), 0
  end,
  wait = function(limit, _, _, now, cost, ahead, history)
    -- A strategy of the user's own lets the call start without room.
    if limit.capacity >= NO_BOUND then return 0 end
    local ms = ask(limit, history, now, 'waitMs', CUSTOM_LONGEST_MS, CUSTOM_FAULT_MS, cost, ahead)
    return ms >= CUSTOM_SHORTEST_MS and wait_up(ms) or 0
  end,
  ttl = function(limit, _, _, now, history)
    return max(1, ask(limit, history, now, 'resetMs', CUSTOM_LONGEST_MS, limit.window))
  end,
  charge = function(limit, history, used, cost, now)
    return (change(limit, history, used, now, 'charge', cost))
  end,
  overrun = function(limit, history, used, amount, _, now)
    return (change(limit, history, used, now, 'charge', amount))
  end,
  refund = function(limit, history, used, amount, at, now)
    if not limit.module.refund then return used, false end
    return change(limit, history, used, now, 'refund', amount, min(at + history.shift, time_of(history, now)))
  end,
  kept = function(history)
    return { history.shift, history.last, unpack(history.state) }
  end,
  slack = Algorithms.slack_of_sum,
  tells_reset = true,
  always_asked = true,
}
end
