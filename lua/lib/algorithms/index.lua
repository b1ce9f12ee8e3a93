-- The algorithms, by the code that src/meters/algorithm.ts gives them. One small
-- piece each; a piece is a table of pure functions over
--   state  { used, debt, claimed }: what is counted, how much of it is overrun
--          beyond the limit (recorded by settlement only), and what passes claim
--   limit  { id, algorithm, unit, capacity, a, b }, a and b as the piece says
--
--   roll(state, limit, from, now)   brings the state from one time to a later one
--   wait(state, limit, now, need)   ms until `need` fits beside what is counted; 0 = now
--   refundable(limit, at, now)      whether a charge made at `at` may still be given back
--   ttl(state, limit, now)          ms after which the state equals an empty one
local LIMIT_ID, LIMIT_ALGORITHM, LIMIT_UNIT, LIMIT_CAPACITY, LIMIT_A, LIMIT_B = 1, 2, 3, 4, 5, 6
local algorithms = {}

-- A wait is rounded up to whole microseconds and one more, so that whoever waits
-- just so long is not refused again by the last bit of a double.
local function wait_up(ms)
  return (math.ceil(ms * 1000) + 1) / 1000
end
