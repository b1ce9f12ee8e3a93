-- Decide: whether all meters of a call have room, and what becomes of them when it starts.
--
-- A meter is asked in two steps. Its gate is asked first, where its rule has one: calls that are
-- paused wait until they are resumed, and an upstream block lets nothing through before its time.
-- Then each limit has to have room for the call's cost, beside the room that other calls have a right
-- to first. Which calls those are depends on the call: the views below.
local Decide = {
  -- A call while no call waits: room is claimed by calls that were woken.
  CLAIMED = { claims = true },
  -- The same of a call that has claimed room itself.
  OTHERS_CLAIMED = { claims = true },
  -- A call that is not the first of its line: calls in line go before it, too.
  QUEUED = { claims = true, queued = true },
  -- A woken call on its own claim: calls of its batch with an earlier slot go before it.
  OWN_CLAIM = { behind = true },
  -- Calls that are woken one after the other.
  BEHIND = { claims = true, behind = true },
  -- A call that would be woken for a queue whose places are all taken: calls of its batch that were woken so, too.
  UNCLAIMED = { claims = true, behind = true, unclaimed = true },
}
do
local max = math.max
local CLAIMED, NO_LOWS = Decide.CLAIMED, Lows.NONE

-- Room that other calls have a right to first. What a call has claimed for itself is its own.
local function ahead(meter, n, limit, view)
  local room = view.claims and meter.claimed[n] or 0
  if meter.own and view.claims then room = max(0, room - (meter.own[limit.id] or 0)) end
  if view.behind and meter.behind then room = room + meter.behind[n] end
  if view.unclaimed and meter.unclaimed then room = room + meter.unclaimed[n] end
  -- Slots turn over: how many calls wait says nothing about when one comes free.
  if view.queued and not limit.leased and Line.length(meter) > 0 then
    room = room + Backlog.in_line(meter, limit.unit) * (meter.share_ahead or 1)
  end
  return room
end

local function upstream_gate(meter, now, view)
  if not meter.block then return 0 end
  local queued = view.queued and Line.length(meter) * (meter.share_ahead or 1) > 0
  return Upstream.wait(meter, now, queued or view.claims and Upstream.is_claimed(meter, now) or false)
end

local GATES = {
  [KIND.PAUSE] = function()
    return PAUSE_WAIT_MS
  end,
  [KIND.UPSTREAM] = upstream_gate,
}

-- What a rule does with a call that has no room: what the call asks for, if the rule can. A pause is
-- waited for, but by calls that ask to be refused. A call that waits (a custom strategy has said so, or it is
-- degraded already) waits where its rules would degrade it or ask that strategy.
function Decide.strictness_of(call, rule)
  local own = call[CALL_STRICTNESS]
  if own == STRICTNESS.WAITS then
    local strictness = rule.strictness
    return (strictness == STRICTNESS.GRACEFUL or strictness == STRICTNESS.CUSTOM) and STRICTNESS.QUEUE or strictness
  end
  if own == STRICTNESS.GRACEFUL and not rule.degrades or own < STRICTNESS.RETRY_AFTER and rule.kind == KIND.PAUSE then
    return rule.strictness
  end
  return own > 0 and own or rule.strictness
end

-- What binds a call at a meter: a limit, or (n = 0) its gate.
function Decide.binding(call, meter, at, n, now)
  local rule = meter.rule
  local limit = rule.limits[n]
  local leased = limit and limit.leased or false
  local strictness = Decide.strictness_of(call, rule)
  if rule.kind == KIND.UPSTREAM and Line.has_returned(call, now) then strictness = rule.strictness end
  return {
    meter = meter, at = at, n = n, leased = leased, paused = rule.kind == KIND.PAUSE,
    -- Whether nothing tells when there is room: for a slot, the end of a pause or of a probe.
    unknown = leased or rule.kind == KIND.PAUSE or n == 0 and Upstream.awaits_probe(meter, now) or false,
    priority = rule.priority, strictness = strictness,
  }
end

-- Of several refusals the latest wait binds. When a slot comes free is not known, so any time that is
-- known says more; while there is a pause no other time counts. The rule with the highest priority
-- decides, at equal priority the strictest. A call that waits stands in the line of the latest refusal
-- that may be waited for.
local function outlasts(one, wait, other, other_wait)
  return not other or one.paused or (not other.paused and not one.leased and (other.leased or wait > other_wait))
end

-- Whether no call waits for what binds this one: its strategy refuses, degrades or asks the user's code.
function Decide.is_strict(binding)
  return binding.strictness > STRICTNESS.THROTTLE
end

-- Of two refusals the one that decides.
function Decide.deciding(one, other)
  if not other or one.priority > other.priority then return one end
  return one.priority == other.priority and one.strictness > other.strictness and one or other
end

local function latest(found, call, meter, at, n, wait, now)
  local one = Decide.binding(call, meter, at, n, now)
  found = found or { wait = wait, binding = one }
  if outlasts(one, wait, found.binding, found.wait) then found.wait, found.binding = wait, one end
  if not Decide.is_strict(one) and outlasts(one, wait, found.standing, found.standing_wait) then
    found.standing, found.standing_wait = one, wait
  end
  found.deciding = Decide.deciding(one, found.deciding)
  return found
end

-- Says at the meters of a call what it has claimed there itself. Returns these meters.
local function mark_own(batch, call, claims, now)
  local marked = {}
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    for i = 2, #claims do
      local key, amounts, _, lasts = unpack(claims[i], 1, 4)
      if KEYS[meter.first] == key then
        meter.own = {}
        marked[#marked + 1] = meter
        for at = 1, #amounts, 2 do
          if (lasts and lasts[(at + 1) / 2] or claims[1]) > now then meter.own[amounts[at]] = amounts[at + 1] end
        end
      end
    end
  end
  return marked
end

-- Weighs a call that has claimed room itself: that is its own.
local function weigh_beside_own(batch, call, record, now, view, fold)
  local claims = record.claims
  local marked = mark_own(batch, call, claims, now)
  record.claims = nil
  local verdict = Decide.weigh(batch, call, now, view == CLAIMED and Decide.OTHERS_CLAIMED or view, fold)
  record.claims = claims
  for _, meter in ipairs(marked) do
    meter.own = nil
  end
  return verdict
end

-- Weighs a call at all its meters. Returns nil where all have room; else { wait, binding, deciding },
-- or { wait = -1, binding } where a cost exceeds what its limit can ever hold.
-- @param fold what gathers the refusals of single limits instead; whatever it returns is returned
function Decide.weigh(batch, call, now, view, fold)
  local record = call[CALL_PARSED]
  if record and record.claims and view.claims then return weigh_beside_own(batch, call, record, now, view, fold) end
  local meters, found = batch.meters, nil
  fold = fold or latest
  for position = CALL_METERS, #call do
    local meter = meters[call[position]]
    local rule, kept, debts, claims = meter.rule, meter.kept, meter.debt, meter.claimed
    local limits, offset, count = rule.limits, rule.offset, rule.active
    local gate = GATES[rule.kind]
    if gate then
      local wait = gate(meter, now, view)
      if wait > 0 then found = fold(found, call, meter, position - CALL_METERS + 1, 0, wait, now) end
      count = meter.block and count or 0
    end
    for n = 1, count do
      local limit = limits[n]
      local cost, used, debt = call[limit.cost_at], kept[offset + n], debts[n]
      local before = view == CLAIMED and claims[n] or ahead(meter, n, limit, view)
      -- An algorithm is not asked where there is plainly room.
      if used + debt + cost + before > limit.plain and cost > 0 then
        if cost > limit.capacity + limit.slack and not limit.takes_any then
          return { wait = -1, binding = { meter = meter, at = position - CALL_METERS + 1, n = n, closed = limit.capacity == 0 } }
        end
        local wait = limit.algorithm.wait(limit, used, debt, now, cost, before, meter.histories[n])
        if wait > 0 then found = fold(found, call, meter, position - CALL_METERS + 1, n, wait, now) end
      end
    end
  end
  return found
end

local function add(meter, name, n, cost)
  local sums = meter[name]
  if not sums then
    sums = { unpack(meter.rule.zeros) }
    meter[name] = sums
  end
  sums[n] = sums[n] + cost
end

-- Room that calls of this batch have a right to before the calls after them.
function Decide.add_behind(meter, n, cost)
  add(meter, 'behind', n, cost)
end

-- Room that calls of this batch were woken for without a claim.
function Decide.add_unclaimed(meter, n, cost)
  add(meter, 'unclaimed', n, cost)
end

-- Calls fn(meter, n, cost, limit) for each limit of the call, also those that an override lifts.
function Decide.each_limit(batch, call, fn)
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule = meter.rule
    local limits = rule.limits
    for n = 1, (rule.kind ~= KIND.UPSTREAM or meter.block) and rule.count or 0 do
      fn(meter, n, call[limits[n].cost_at], limits[n])
    end
  end
end

-- Whether a meter counts a call that it was charged by as open: it keeps lows, and the call cost anything.
function Decide.counts(meter, call)
  local rule = meter.rule
  if not rule.keeps_lows and not Lows.any(meter) then return false end
  for n = 1, rule.active do
    local limit = rule.limits[n]
    if not limit.leased and call[limit.cost_at] > 0 then return true end
  end
  return false
end

-- Charges every limit and opens the ledger entry. Returns the outcome: WATCHED where the block of its
-- agent has to hear of the call's end.
function Decide.start(batch, call, now)
  local opens = call[CALL_LEDGER_KEY] or call[CALL_RECORD_KEY]
  for position = CALL_METERS, #call do
    local meter = batch.meters[call[position]]
    local rule, kept = meter.rule, meter.kept
    local limits, offset = rule.limits, rule.offset
    for n = 1, rule.kind == KIND.UPSTREAM and 0 or rule.active do
      local limit = limits[n]
      local cost = call[limit.cost_at]
      if cost > 0 then
        if limit.counts then
          kept[offset + n] = kept[offset + n] + cost
          meter.changed = true
        else
          Charge.charge(meter, n, limit, cost, now, call)
        end
      end
    end
    if (rule.keeps_lows or meter.lows ~= NO_LOWS) and opens and Decide.counts(meter, call) then kept[1] = kept[1] + 1 end
  end
  local block = Upstream.of(batch, call)
  if block then Upstream.start(block, call, now) end
  Batch.open_entry(batch, call, now)
  return block and OUTCOME.WATCHED or OUTCOME.RUN
end

-- Opens the entry of a call that was charged otherwise than by a start: it may give back.
function Decide.open(batch, call, now)
  local opens = call[CALL_LEDGER_KEY] or call[CALL_RECORD_KEY]
  for position = CALL_METERS, opens and #call or 0 do
    local meter = batch.meters[call[position]]
    if Decide.counts(meter, call) then meter.kept[1] = meter.kept[1] + 1 end
  end
  Batch.open_entry(batch, call, now)
end

function Decide.running(batch, call)
  return Upstream.of(batch, call) and OUTCOME.WATCHED or OUTCOME.RUN
end

-- A call can stand behind the first of its lines that is not empty, though all its meters have room.
-- Returns that line's binding and how long it may take until the line has moved.
function Decide.line_ahead(batch, call, now)
  for position = CALL_METERS, batch.any_line and #call or 0 do
    local meter = batch.meters[call[position]]
    if Line.length(meter) > 0 then
      local n = GATES[meter.rule.kind] and 0 or 1
      local binding = Decide.binding(call, meter, position - CALL_METERS + 1, n, now)
      local due = tonumber(redis.call('ZSCORE', KEYS[FIXED.LINES], Line.key(meter)) or now) or now
      return binding, max(1, due + LOOKAHEAD_MS - now)
    end
  end
end

-- What a newcomer that never stands in line is answered: nil where it has room, else the outcome of its
-- refusal, the wait and what binds it. A call that stands in line itself is not behind that line.
function Decide.refusal(batch, call, now)
  for position = CALL_METERS, batch.any_line and #call or 0 do
    Line.pass_abandoned(batch.meters[call[position]], now)
  end
  local verdict = Decide.weigh(batch, call, now, Decide.newcomer_view(batch))
  if verdict then
    local binding = verdict.binding
    return verdict.wait == -1 and Decide.never(binding) or OUTCOME.REFUSED, verdict.wait, binding
  end
  local record = call[CALL_PARSED]
  if record and record.state == 'W' then return nil end
  local before, behind = Decide.line_ahead(batch, call, now)
  if before then return OUTCOME.REFUSED, behind, before end
end

function Decide.newcomer_view(batch)
  return batch.any_line and Decide.QUEUED or Decide.CLAIMED
end

-- The outcome of a cost that exceeds what a limit can ever hold.
function Decide.never(binding)
  return binding.closed and OUTCOME.CLOSED or OUTCOME.TOO_BIG
end
end
