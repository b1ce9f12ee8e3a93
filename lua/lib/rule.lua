-- Rule: a rule as its meters need it, worked out once for all of them.
--   kind, priority, strictness
--   limits     each with its algorithm and what does not change from call to call: its numbers,
--              leased (slots), counts (its room is nothing but a number), leaks (a bucket), keeps_lows
--              (one of costs that are known only when calls have ended: lib/lows.lua), plain (below it
--              there is room without asking the algorithm), cost_at (where a call's cost in its unit
--              stands), sum_at (where the sum of its unit stands: lib/sums.lua), key_at (of a key of its own),
--              memory (for how many ms a charge matters to it)
--   units      how many units its limits have; they are numbered in the order of the limits (sum_at)
--   leaks, keeps_lows   whether any of the limits does
--   active     how many of the limits hold, the first ones. An override lifts the others: a call
--              needs no room there and is not charged. Their usage is kept, and claims of calls that
--              were woken before are given back there
--   places     a limit's number by its id
--   stamp      of a limit: its id and the code of its rate (0: it is no bucket), as one number
--   offset     a plain value unpacks to { kind, at, stamps…, used…, end }: the used of limit n is at offset + n
--   empty      the same of a meter that does not exist;  zeros  debt and claims of a meter without any.
--              Both are shared, and never written to
--   max_wait, max_waiting, hold, max_delay   0 = without a bound
--   degrades   whether calls that it refuses may run in degraded mode
--   recovery   of an upstream block: { id, probe_lease, every, grows }
-- How a rule is encoded: RULE and LIMIT in the protocol.
local Rule = { EXTENDED = 120, PLAIN = 128, LISTED = 192, HEAD = 9, PLAIN_ENTRY = 16 }
do
local floor, max, min = math.floor, math.max, math.min
-- The code of a rate is its exponent, 8 bits, and the 13 bits after the first one of what it multiplies: the rate,
-- rounded down by less than a part in 8,192. With an id of 32 bits before it that is a whole number, which a double holds.
local CODES, PARTS, BIAS = 2 ^ 21, 2 ^ 13, 128
local LONGEST_MEMORY_MS = 30 * 86400000
local UNBOUNDED = { [OPTION.MAX_WAIT] = 0, [OPTION.MAX_WAITING] = 0, [OPTION.HOLD] = DEFAULT_HOLD_MS, [OPTION.MAX_DELAY] = 0, [OPTION.DEGRADES] = 0 }

-- A slot turns over: what waits for one is held against it as briefly as a claim.
local function memory_of(limit)
  if limit.leased then return CLAIM_MS end
  local memory = limit.window
  if limit.leaks then memory = limit.rate > 0 and limit.capacity / limit.rate or 0 end
  return math.min(memory, LONGEST_MEMORY_MS)
end

local function code_of(limit)
  if not limit.leaks or limit.rate <= 0 then return 0 end
  local part, exponent = math.frexp(limit.rate)
  return max(0, min(255, exponent + BIAS)) * PARTS + floor((2 * part - 1) * PARTS)
end

-- The id and the code of the rate in a stamp.
function Rule.read_stamp(stamp)
  local id = floor(stamp / CODES)
  return id, stamp - id * CODES
end

-- The limit with another rate, if that is lower. @param code of the other rate, 0 = it is not known
function Rule.slower(limit, code)
  local rate = code > 0 and math.ldexp((1 + code % PARTS / PARTS) / 2, floor(code / PARTS) - BIAS) or limit.rate
  if rate >= limit.rate then return limit end
  local slower = {}
  for name, value in pairs(limit) do
    slower[name] = value
  end
  slower.rate = rate
  return slower
end

local function prepare_limit(rule, given)
  local limit = {
    id = given[LIMIT.ID], unit = given[LIMIT.UNIT], capacity = given[LIMIT.CAPACITY], rate = given[LIMIT.RATE],
    window = given[LIMIT.WINDOW], lease = given[LIMIT.LEASE], offset = given[LIMIT.OFFSET], borders = given[LIMIT.BORDERS],
  }
  local algorithm = rule.kind == KIND.UPSTREAM and Recovery.mirrored or Algorithms[given[LIMIT.ALGORITHM]]
  limit.algorithm = algorithm
  if algorithm.prepare then algorithm.prepare(limit, given) end
  limit.roll, limit.ttl = algorithm.roll, algorithm.ttl
  limit.slack = algorithm.slack(limit)
  limit.leased = limit.unit == UNIT.CONCURRENCY
  limit.counts = algorithm.charge == nil
  limit.leaks = algorithm.leaks or false
  limit.code = code_of(limit)
  limit.stamp = limit.id * CODES + limit.code
  limit.keeps_lows = limit.leaks and limit.unit ~= UNIT.REQUESTS and limit.unit ~= UNIT.POINTS
  limit.plain = (algorithm.no_burst or algorithm.always_asked) and 0 or limit.capacity
  limit.memory = memory_of(limit)
  limit.tells_reset = algorithm.tells_reset or false
  limit.takes_any = rule.kind == KIND.UPSTREAM
  limit.cost_at = CALL_COST + limit.unit
  if algorithm.keyed then
    rule.keyed = rule.keyed + 1
    limit.key_at = rule.keyed
  end
  rule.remembers = rule.remembers or algorithm.open ~= nil
  rule.leaks = rule.leaks or limit.leaks
  rule.keeps_lows = rule.keeps_lows or limit.keeps_lows
  rule.leased = rule.leased or limit.leased
  return limit
end

local function number_units(limits)
  local numbers, count = {}, 0
  for _, limit in ipairs(limits) do
    if not numbers[limit.unit] then
      count = count + 1
      numbers[limit.unit] = count
    end
    limit.sum_at = numbers[limit.unit]
  end
  return count
end

local function prepare(encoded)
  local given = cjson.decode(encoded)
  local options, recovery = given[RULE.OPTIONS] or UNBOUNDED, given[RULE.RECOVERY]
  local rule = {
    kind = given[RULE.KIND], priority = given[RULE.PRIORITY], strictness = given[RULE.STRICTNESS], keyed = 0,
    max_wait = options[OPTION.MAX_WAIT], max_waiting = options[OPTION.MAX_WAITING], hold = options[OPTION.HOLD],
    max_delay = options[OPTION.MAX_DELAY], degrades = options[OPTION.DEGRADES] == 1,
    recovery = recovery and {
      id = recovery[RECOVERY.ID], probe_lease = recovery[RECOVERY.PROBE_LEASE],
      every = recovery[RECOVERY.EVERY], grows = recovery[RECOVERY.GROWS],
    },
  }
  local limits, count = {}, #given[RULE.LIMITS]
  local places, empty, zeros = {}, { Rule.PLAIN, 0 }, {}
  for n, one in ipairs(given[RULE.LIMITS]) do
    limits[n] = prepare_limit(rule, one)
    places[limits[n].id] = n
    empty[2 + n], empty[2 + count + n], zeros[n] = limits[n].stamp, 0, 0
  end
  rule.limits, rule.count, rule.active, rule.offset = limits, count, given[RULE.ACTIVE] or count, 2 + count
  rule.units = number_units(limits)
  rule.places, rule.empty, rule.zeros = places, empty, zeros
  rule.plain_size = Rule.HEAD + Rule.PLAIN_ENTRY * count
  rule.plain_format = '<Bd' .. string.rep('d', 2 * count)
  return rule
end

-- Rules come with every batch, most often the same ones: so many prepared ones are kept for as long
-- as the library is loaded.
local KEPT = 1000
local kept, kept_count = {}, 0

function Rule.of(encoded)
  local rule = kept[encoded]
  if not rule then
    if kept_count >= KEPT then kept, kept_count = {}, 0 end
    rule = prepare(encoded)
    kept[encoded], kept_count = rule, kept_count + 1
  end
  return rule
end
end
