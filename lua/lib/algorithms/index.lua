-- The algorithms, by the code that src/meters/algorithm.ts gives them. One small piece
-- each: a table of pure functions over numbers, so that nothing is made to be thrown away.
--   limit    { id, algorithm, unit, capacity, a, b }, a and b as the piece says
--   used     what is counted, at most the capacity
--   debt     what settlements found beyond the capacity
--
--   roll(limit, used, debt, from, now)        used and debt, brought to a later time
--   wait(limit, used, debt, now, need, hint)  ms until `need` fits beside them; 0 = now
--   refundable(limit, at, now)                whether a charge made at `at` may be given back;
--                                             always_refundable = true says so of all
--   ttl(limit, used, debt, now)               ms after which they are zero
local LIMIT_ID, LIMIT_ALGORITHM, LIMIT_UNIT, LIMIT_CAPACITY, LIMIT_A, LIMIT_B = 1, 2, 3, 4, 5, 6
local algorithms = {}
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

-- A wait is rounded up to whole microseconds and one more, so that whoever waits just so
-- long is not refused again by the last bit of a double.
local function wait_up(ms)
  return (ceil(ms * 1000) + 1) / 1000
end
