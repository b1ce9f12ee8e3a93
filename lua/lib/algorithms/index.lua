-- The algorithms, by the code that src/limits/algorithm.ts gives them. One small piece
-- each: a table of functions over numbers, so that nothing is made to be thrown away.
--   limit    { id, algorithm, unit, capacity, a, b, borders? }, a and b as the piece says
--   used     what is counted
--   debt     what settlements found beyond the capacity, where it is kept apart
--   history  what an algorithm remembers besides: see sliding-window, sliding-log, concurrency
--   ahead    room that others have a right to first
--
--   roll(limit, used, debt, from, now, history)             used and debt, brought to a later time
--   wait(limit, used, debt, now, cost, ahead, history)      ms until the cost fits; 0 = now
--   ttl(limit, used, debt, now, history)                    ms after which nothing is used
--   refundable(limit, at, now)                              whether a charge made at `at` may be
--                                                           given back; always_refundable = true: any
--   slack(limit)                                            how far a sum may be beside a limit
-- and, where `used` and `debt` are not all there is to it:
--   open(limit, list, key)                                  the history, from what is kept of it
--   charge, overrun, refund (see sliding-window)            what becomes of it; else lib/meter.lua's own
--   kept(history)                                           the list of numbers to be kept of it
-- keyed = true says that a limit has a key of its own; no_burst that its room is all or none;
-- no_cost that calls take nothing of it, and it is asked for every one; no_end that nobody knows when it has room again;
-- tells_reset that `used` and `debt` together do not say its ttl.
local LIMIT_ID, LIMIT_ALGORITHM, LIMIT_UNIT, LIMIT_CAPACITY, LIMIT_A, LIMIT_B, LIMIT_BORDERS = 1, 2, 3, 4, 5, 6, 7
local algorithms = {}
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

-- Sums of fractions, and times of microseconds, are beside the truth by the last bits of a
-- double. Never as much as one unit of anything, and it does not add up: what passes within
-- the slack is charged in full.
local MOST_SLACK = 0.001

-- Buckets: what comes back within a microsecond.
local function slack_of_rate(limit)
  return min(MOST_SLACK, limit[LIMIT_A] * 0.001)
end

local function slack_of_sum(limit)
  return min(MOST_SLACK, limit[LIMIT_CAPACITY] * 1e-12)
end

-- A wait is rounded up to whole microseconds and one more, so that whoever waits just so
-- long is not refused again by the last bit of a double.
local function wait_up(ms)
  return (ceil(ms * 1000) + 1) / 1000
end

-- What the sliding algorithms share.
-- How much has to come free first, and for how many rounds before: those ahead take what is
-- free now and what comes free, and give it back a round later.
local function rounds_ahead(limit, used, over)
  local round = max(used, limit[LIMIT_CAPACITY])
  local rounds = max(0, ceil((over - limit.slack) / round) - 1)
  return over - rounds * round, rounds
end

-- What of an overrun does not fit beside what is used. Closed limits owe nothing.
local function beyond_capacity(limit, used, amount)
  local capacity = limit[LIMIT_CAPACITY]
  return capacity > 0 and max(0, min(amount, used + amount - capacity)) or 0
end
