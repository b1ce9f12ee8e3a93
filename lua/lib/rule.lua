-- A rule as its meters need it: what does not depend on any of them, worked out once.
-- How their values are packed: lib/meter.lua.
local PLAIN, EXTENDED = 112, 120
local HEAD, PLAIN_ENTRY = 9, 12
local BLOCK = 4

-- What all meters of a rule share.
--   places  where to find a limit by its id
--   offset  a plain value unpacks to { PLAIN, at, ids…, used…, end }: the used of limit n is at offset + n
--   empty   the same for a meter that is not there
--   zeros   debt and claims of a meter that has none; never written to
--   blocks  a block, of which a call takes nothing, and the limits mirrored beside it
--   told    how many limits a reply tells of: those that are mirrored are not among them
--   max_wait, max_waiting, hold, max_delay   see rule options in lib/batch.lua; 0 = without bound
--   degrades  whether calls that it refuses may run in degraded mode
--   active  how many of its limits hold, the first ones. An override lifts the others: a call needs no
--           room there and is not charged. But their usage is kept, and given back are the claims of
--           calls that were woken before
-- And of each limit: counts, where its room is nothing but a number; gives_back, where that
-- is so whenever it was charged; plain, below which there is room without asking its algorithm; and
-- where the key of its own stands behind those of the meter.
-- As in src/limits/compiled-limit.ts.
local NO_OPTIONS = { 0, 0, 250, 0, 0 }

local function prepare_rule(encoded)
  local rule = cjson.decode(encoded)
  local limits = rule[3]
  local count = #limits
  local places, empty, zeros, keyed = {}, { PLAIN, 0 }, {}, 0
  for n = 1, count do
    local limit = limits[n]
    local algorithm = algorithms[limit[LIMIT_ALGORITHM]]
    places[limit[LIMIT_ID]] = n
    limit.algorithm = algorithm
    limit.leased = limit[LIMIT_UNIT] == UNIT_CONCURRENCY
    limit.counts = algorithm.charge == nil
    limit.gives_back = limit.counts and algorithm.always_refundable
    limit.slack = algorithm.slack(limit)
    limit.plain = algorithm.no_end and -1 or algorithm.no_burst and 0 or limit[LIMIT_CAPACITY]
    if algorithm.keyed then
      keyed = keyed + 1
      limit.key_at = keyed
    end
    limit.ttl, limit.roll, limit.cost_at = algorithm.ttl, algorithm.roll, CALL_COST + limit[LIMIT_UNIT]
    rule.remembers = rule.remembers or algorithm.open ~= nil
    rule.leased = rule.leased or limit.leased
    rule.pauses = rule.pauses or algorithm.no_end
    -- When there is room nobody can know.
    limit.unknown = limit.leased or algorithm.no_end
    -- What no cost is too big for.
    limit.takes_any = algorithm.no_cost or algorithm.never_too_big
    empty[2 + n], empty[2 + count + n], zeros[n] = limit[LIMIT_ID], 0, 0
  end
  rule.keyed = keyed
  local options = rule[5] or NO_OPTIONS
  rule.max_wait, rule.max_waiting, rule.hold, rule.max_delay, rule.degrades = options[1], options[2], options[3], options[4], options[5] == 1
  rule.active = rule[4] or count
  rule.blocks = count > 0 and limits[1][LIMIT_ALGORITHM] == BLOCK
  rule.told = rule.blocks and 1 or count
  rule.count, rule.offset, rule.places, rule.empty, rule.zeros = count, 2 + count, places, empty, zeros
  rule.plain_size = HEAD + PLAIN_ENTRY * count
  rule.plain_format = '<Bd' .. string.rep('I4', count) .. string.rep('d', count)
  return rule
end

-- Rules come with every batch, most often the same: prepared ones are kept as long as the
-- library is (nothing in them is ever written to), so many at most.
local RULES_KEPT = 1000
local kept_rules, kept_rules_count = {}, 0

local function rule_of(encoded)
  local rule = kept_rules[encoded]
  if not rule then
    if kept_rules_count >= RULES_KEPT then
      kept_rules, kept_rules_count = {}, 0
    end
    rule = prepare_rule(encoded)
    kept_rules[encoded], kept_rules_count = rule, kept_rules_count + 1
  end
  return rule
end
