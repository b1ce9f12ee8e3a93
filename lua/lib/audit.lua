-- Audit: a stream of what was changed. The script that changes something appends the entry, so
-- that there is no change without one. An entry's id begins with its time; its fields are by,
-- what, subject and, as JSON, before and after. It keeps AUDIT_AT_MOST entries, for as long as the
-- namespace says; Redis trims it in blocks, so it may have some hundred more.
local Audit = {}
do
local floor, max, format = math.floor, math.max, string.format

-- @param retention in ms: older entries go, and the stream with its last entry
function Audit.append(key, now, retention, by, what, subject, before, after)
  -- A stream takes no id below its last one: beside a clock that was set back its time stands still.
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local at, sequence = floor(now), 0
  if last then
    local last_at, last_sequence = string.match(last[1], '^(%d+)-(%d+)$')
    if tonumber(last_at) >= at then at, sequence = tonumber(last_at), tonumber(last_sequence) + 1 end
  end
  local id = format('%.0f-%.0f', at, sequence)
  redis.call('XADD', key, id, 'by', by, 'what', what, 'subject', subject, 'before', before, 'after', after)
  redis.call('XTRIM', key, 'MAXLEN', '~', AUDIT_AT_MOST)
  redis.call('XTRIM', key, 'MINID', '~', format('%.0f', max(0, now - retention)))
  redis.call('PEXPIRE', key, Clock.px(retention))
  return id
end

local GROUPS_AT_MOST = 1000

-- Appends an entry that counts: it takes the place of the one before it by the same actor and of the
-- same group, for an hour from the first of them. `after` says how many there were.
-- @param counts the key of a hash: by actor and group the entry's id, its count and the time of the first
function Audit.count(key, counts, now, retention, by, what, group, subject, before)
  local field = by .. '\n' .. group
  local former, count, since = string.match(redis.call('HGET', counts, field) or '', '^(%S+) (%d+) (%d+)$')
  if not former or now - tonumber(since) >= COUNTED_RESETS_MS then former, count, since = nil, 0, floor(now) end
  count = count + 1
  local id = Audit.append(key, now, retention, by, what, subject, before, format('{"resets":%d}', count))
  -- After it: a stream without its last entry still takes no id below that.
  if former then redis.call('XDEL', key, former) end
  -- What is forgotten only begins a new entry.
  if redis.call('HLEN', counts) > GROUPS_AT_MOST then redis.call('DEL', counts) end
  redis.call('HSET', counts, field, format('%s %d %.0f', id, count, since))
  redis.call('PEXPIRE', counts, COUNTED_RESETS_MS)
end
end
