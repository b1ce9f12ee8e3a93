-- Algorithms: how much of a limit is used up as time goes by, one table of functions per
-- algorithm, found by its code. Their twins are in src/limits/algorithms/; a property test holds
-- the two to the same answers.
--   limit    a limit as lib/rule.lua prepares it: capacity, rate, window, lease, offset, borders, slack
--   used     what is counted
--   debt     overrun found at settlement that exceeds the capacity, where it is kept apart
--   history  what an algorithm remembers besides
--   ahead    room that other calls have a right to first
--
--   roll(limit, used, debt, from, now, history)           used and debt, brought to a later time
--   wait(limit, used, debt, now, cost, ahead, history)    ms until the cost fits; 0 = now
--   ttl(limit, used, debt, now, history)                  ms after which nothing is used
--   slack(limit)                                          by how much a sum may miss a limit
--   refundable(limit, at, now, history)                   whether a charge of the time `at` may be
--                                                         given back; or always_refundable = true
-- and, where `used` and `debt` are not all there is to it:
--   open(limit, list, key)            the history, from the list of numbers that is kept of it
--   look(limit, history, now)         what is used, where only a key of its own says so
--   charge, overrun, refund           see sliding-window; otherwise lib/charge.lua does it
--   kept(history)                     the list of numbers to keep of it
--   prepare(limit, given)             what it needs of an encoded limit besides
--   tidy(limit, history, used, ends)  before it is saved, `ends` ms before nothing is used; returns what is used
-- leaks = true: room comes back by the clock, however much calls give back (lib/lows.lua).
-- keyed = true: a limit has a key of its own. no_burst = true: room is all or none, so the capacity
-- says nothing about a call that fits. always_asked = true: only its wait tells whether a call fits.
-- tells_reset = true: `used` and `debt` do not tell the ttl.
local Algorithms = {}
do
local ceil, max, min = math.ceil, math.max, math.min

-- Sums of fractions, and times of microseconds, miss the truth by the last bits of a double. That
-- is never as much as one unit of anything, and does not add up: what passes within the slack is
-- charged in full.
local MOST_SLACK = 0.001

-- Buckets: what comes back within a microsecond.
function Algorithms.slack_of_rate(limit)
  return min(MOST_SLACK, limit.rate * 0.001)
end

function Algorithms.slack_of_sum(limit)
  return min(MOST_SLACK, limit.capacity * 1e-12)
end

-- A wait is rounded up to whole microseconds and one more, so that a call which waits exactly so
-- long is not refused again by the last bit of a double.
function Algorithms.wait_up(ms)
  return (ceil(ms * 1000) + 1) / 1000
end

-- Sliding algorithms: how much has to come free first, and for how many rounds before that. Calls
-- ahead take what is free now and what comes free, and give it back a round later.
function Algorithms.rounds_ahead(limit, used, over)
  local round = max(used, limit.capacity)
  local rounds = max(0, ceil((over - limit.slack) / round) - 1)
  return over - rounds * round, rounds
end

-- Sliding algorithms: the part of an overrun that does not fit beside what is used. A closed limit
-- keeps no debt.
function Algorithms.beyond_capacity(limit, used, amount)
  local capacity = limit.capacity
  return capacity > 0 and max(0, min(amount, used + amount - capacity)) or 0
end
end
