-- Pulse: whether Redis was out of reach a moment ago, for all workers at once.
--
-- A slot ends with its lease: one lease after the last renewal its worker is taken for dead. Where Redis
-- itself was away (stopped, unreachable, read-only), no worker could renew, and slots of calls that go on
-- have ended. So every worker process gives a sign several times a second (lease.lua). After a silence that
-- may have cost a slot its lease, a silence of half the lease, no slot of the limit is given for GRACE,
-- counted from the first sign of any process: by then the workers have renewed their slots (renew.lua). The
-- silence that the death of the last worker leaves ends with the next heartbeat of any process.
--   the pulse: "<last sign of a worker, 0 = none works> <length> <end> <length> <end>" of the silence that
--   counts most, and of a shorter one after it
local Pulse = {}
do
local max = math.max
local text = Clock.text
local TTL = string.format('%.0f', 86400000)
local GRACE = SLOT_GRACE_MS

local function read(key)
  local last, length, ended, length_after, ended_after = string.match(redis.call('GET', key) or '', '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  return last and {
    last = tonumber(last), length = tonumber(length), ended = tonumber(ended), length_after = tonumber(length_after), ended_after = tonumber(ended_after),
  }
end

local function save(key, pulse)
  local silences = text(pulse.length) .. ' ' .. text(pulse.ended) .. ' ' .. text(pulse.length_after) .. ' ' .. text(pulse.ended_after)
  redis.call('SET', key, text(pulse.last) .. ' ' .. silences, 'PX', TTL)
end

-- Whether a silence that ended at a time counts still. One that ends in the future was noted before the
-- clock was set back.
local function counts(ended, now)
  return ended <= now and now < ended + GRACE
end

local function note(pulse, length, now)
  if length < pulse.length and counts(pulse.ended, now) then
    if length >= pulse.length_after or not counts(pulse.ended_after, now) then
      pulse.length_after, pulse.ended_after = length, now
    end
  else
    pulse.length, pulse.ended, pulse.length_after, pulse.ended_after = length, now, 0, 0
  end
end

-- A process gives a sign. Where no worker has given one lately, the silence is over.
function Pulse.beat(key, now, is_worker)
  local pulse = read(key)
  if not pulse then
    if is_worker then save(key, { last = now, length = 0, ended = 0, length_after = 0, ended_after = 0 }) end
    return
  end
  local silence = pulse.last > 0 and now - pulse.last or 0
  if silence > SILENCE_MS then
    note(pulse, silence, now)
  elseif not is_worker then
    return
  end
  pulse.last = is_worker and now or 0
  save(key, pulse)
end

-- The last worker leaves, and holds nothing: what follows is no silence.
function Pulse.leave(key)
  local pulse = read(key)
  if not pulse then return end
  pulse.last = 0
  save(key, pulse)
end

local of_keys, known

-- Until when no slot with this lease is given; nil = slots are given. Read once per script call; a clock
-- that is given says nothing about silences.
function Pulse.closed_until(lease, now)
  if Clock.is_given() then return nil end
  if of_keys ~= KEYS then of_keys, known = KEYS, read(KEYS[FIXED.PULSE]) end
  if not known then return nil end
  local least = lease / 2
  if known.last > 0 and now - known.last >= max(least, SILENCE_MS) then return now + GRACE end
  local till = 0
  if known.length >= least and counts(known.ended, now) then till = known.ended + GRACE end
  if known.length_after >= least and counts(known.ended_after, now) then till = max(till, known.ended_after + GRACE) end
  return till > now and till or nil
end
end
