--[[
  Gives back all that a call holds, whatever its state: its place in line, the room that it
  claims, or what its start was charged (to the window that was charged). A worker that has lost the job of
  the call gives back its own charge only: place and pass are another attempt's by then.

  KEYS        as in start.lua, and the meters that the call has claims at
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the batch as JSON; a token of '' releases calls that have not started only
  ARGV[3…]    per call the key of the line it stands in, '' = none, declared among KEYS; and its identity,
              '' = whichever call waits under its id

  Reply       per call 'W', 'P' or 'S' as it was, '-' if it held nothing, 'R' if what has started or
              waits under its id is another call, or has another token; 'A' if it has joined a line or
              claimed room since its record was read: nothing is changed, and it is to be read anew
  Cost        one MGET, one SET per meter that changes, one DEL per call
]]
--- @include "lib/core.lua"

local now = Clock.now(ARGV[1])
local batch = Batch.load(ARGV[2], now, true)
local reply = {}

local function release(call, line_key, identity)
  local record = call[CALL_PARSED]
  if Record.is_of_another(call, now) or Record.waits_for_another(record, identity) then return 'R' end
  if record.state == 'S' then return Settlement.undo(batch, call, now) and 'S' or '-' end
  if call.lost then return '-' end
  if record.state == 'W' and record.line ~= line_key or not Pass.in_reach(batch, call, record, now) then return 'A' end
  if record.state == 'P' then
    Pass.give_up(batch, call, record, now)
    Line.stir_all(batch, call, now)
  else
    Line.leave(batch, line_key, call)
    Pass.let_go(batch, call, record, now)
  end
  Batch.drop_record(batch, call)
  return record.state
end

for i, call in ipairs(batch.calls) do
  reply[i] = call[CALL_PARSED] and release(call, ARGV[1 + 2 * i], ARGV[2 + 2 * i]) or '-'
end

Batch.save(batch)
return reply
