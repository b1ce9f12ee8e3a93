-- Newcomer: what becomes of a call that has no pass and stands in no line, at the front door and in a
-- worker. `door` says where they differ:
--   admit(batch, call, now)   the call has room: adds its outcome to the reply
--   held                      the outcome of a call that is slowed for a moment
--   claims                    whether room is kept for calls that are to start later; at meters that refuse it always is
local Newcomer = {}
do
local max, min = math.max, math.min
local text = Clock.text

-- Adds the refusal of a verdict: too big for ever, or by the strategy of the rule that decides.
function Newcomer.refuse(batch, verdict)
  local binding, deciding = verdict.binding, verdict.deciding
  if verdict.wait == -1 then return Reply.add(batch.reply, Decide.never(binding), -1, binding) end
  Reply.add(batch.reply, OUTCOME.REJECT, max(verdict.wait, 1), deciding, nil, deciding.strictness)
end

-- Forgets a call whose deadline has passed.
function Newcomer.expire(batch, call)
  Batch.drop_record(batch, call)
  Reply.add(batch.reply, OUTCOME.EXPIRED, 0, nil)
end

-- The shorter of two bounds, of which 0 is none.
local function shorter(one, other)
  return one > 0 and other > 0 and min(one, other) or max(one, other)
end

-- Whether it is known already that a call would start after its deadline.
local function starts_late(now, wait, binding, deadline)
  return deadline > 0 and now + wait > deadline and not binding.unknown
end

-- @param look when its line is looked at, if it is the first there
local function stand(batch, call, now, binding, place, moves, deadline, wait, most, latest, look)
  local claims = Pass.claim_in_line(batch, call, binding.meter)
  local rank = Line.join(batch, call, binding.meter, place, moves, deadline, look, now, claims)
  batch.any_line = true
  Reply.add(batch.reply, OUTCOME.WAIT, wait, latest or binding, rank, nil, most)
end

-- A call that was in line before keeps its place.
function Newcomer.stand_again(batch, call, now, binding)
  local record = call[CALL_PARSED]
  local wait, most, latest, look = Estimate.at_place(batch, call, now, record.place)
  stand(batch, call, now, binding, record.place, record.moves, record.deadline, wait, most, latest, look)
end

-- How long a call may wait in the line of a rule. A pause and a block have no bound of their own:
-- there the other rules' bounds hold.
local function longest_wait(batch, call, rule, deciding)
  local longest = shorter(rule.max_wait, deciding.meter.rule.max_wait)
  if rule.kind == KIND.PAUSE or rule.kind == KIND.UPSTREAM then
    for position = CALL_METERS, #call do
      longest = shorter(longest, batch.meters[call[position]].rule.max_wait)
    end
  end
  return longest
end

-- A newcomer gets a place in line, unless the line is full or the call would start too late.
-- @param behind how long the calls before it wait, where it has room itself
local function stand_new(batch, call, now, verdict, behind)
  if call[CALL_JSON] == '' then return Reply.add(batch.reply, OUTCOME.AGAIN) end
  local binding, deciding = verdict.standing, verdict.deciding
  local rule, length = binding.meter.rule, Line.length(binding.meter)
  -- A call that comes back was let in before.
  if rule.max_waiting > 0 and length >= rule.max_waiting and not call.arrived then
    return Reply.add(batch.reply, OUTCOME.LINE_FULL, 0, binding, length)
  end
  local wait, most, latest, look = Estimate.at_place(batch, call, now, Line.place_now(call, now))
  if not latest and behind then wait, most, look = max(wait, behind), max(most, behind), max(look, behind) end
  local deadline = Line.deadline_of(call, now, longest_wait(batch, call, rule, deciding))
  if starts_late(now, wait, latest or binding, deadline) then
    return Reply.add(batch.reply, OUTCOME.LATE, wait, latest or binding)
  end
  stand(batch, call, now, binding, Line.next_place(call, false, now), 0, deadline, wait, most, latest, look)
end

-- Gives a call the right to start from a slot on.
-- @param claims whether its room is kept for it at all its meters, also at those that wait
function Newcomer.promise(batch, call, now, slot, deadline, claims)
  local place = Line.next_place(call, false, now)
  Pass.give(batch, call, { place = place, moves = 0, deadline = deadline, call = call[CALL_JSON] }, slot, claims and Pass.ROOM or Pass.AT_STRICT, slot + PASS_CHECK_MS)
end

-- Throttle: a short while in the worker, longer in line, and refused where it would take too long.
-- @param before whether the call stands behind a line
local function slow(batch, call, now, verdict, door, before)
  local wait, binding, deciding = verdict.wait, verdict.binding, verdict.deciding
  local rule, known = deciding.meter.rule, not binding.unknown
  if known and rule.max_delay > 0 and wait > rule.max_delay and batch.any_line and call[CALL_PRIORITY] ~= 0 then
    -- By its priority it may go before some of the calls that wait.
    local latest, _
    wait, _, latest = Estimate.at_place(batch, call, now, Line.place_now(call, now))
    binding = latest or binding
  end
  if known and rule.max_delay > 0 and wait > rule.max_delay then
    return Newcomer.refuse(batch, { wait = wait, binding = binding, deciding = deciding })
  end
  if not known or before or wait > rule.hold then
    return stand_new(batch, call, now, verdict, before and wait)
  end
  if call[CALL_JSON] == '' then return Reply.add(batch.reply, OUTCOME.AGAIN) end
  local deadline = Line.deadline_of(call, now, rule.max_wait)
  if starts_late(now, wait, binding, deadline) then return Reply.add(batch.reply, OUTCOME.LATE, wait, binding) end
  Newcomer.promise(batch, call, now, now + wait, deadline, door.claims)
  Reply.add(batch.reply, door.held, wait, binding)
end

function Newcomer.decide(batch, call, now, door)
  local verdict = Decide.weigh(batch, call, now, Decide.newcomer_view(batch))
  if verdict and verdict.wait == -1 then return Newcomer.refuse(batch, verdict) end
  if call.deadline and call.deadline > 0 and call.deadline <= now then
    return Reply.add(batch.reply, OUTCOME.EXPIRED, 0, nil)
  end
  local before, behind = Decide.line_ahead(batch, call, now)
  if before and not verdict then verdict = { wait = behind, binding = before, standing = before, deciding = before } end
  if not verdict then return door.admit(batch, call, now) end
  local strictness = verdict.deciding.strictness
  if strictness > STRICTNESS.THROTTLE then
    return Newcomer.refuse(batch, verdict)
  elseif strictness == STRICTNESS.THROTTLE then
    return slow(batch, call, now, verdict, door, before)
  end
  return stand_new(batch, call, now, verdict, before and verdict.wait)
end
end
