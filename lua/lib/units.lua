-- What limits count, by the codes that src/policy/compile.ts gives them. The first six are
-- costs: a call says how much it costs in each. A concurrency takes one slot, a block nothing.
local UNIT_TOKENS, UNIT_CONCURRENCY, UNIT_NONE = 2, 7, 8
local COST_UNITS = 6
-- What a call costs in a unit stands there + the unit's code, see lib/batch.lua.
local CALL_COST = 3
