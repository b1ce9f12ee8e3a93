-- Audit: a stream of what was changed. The script that changes something appends the entry, so
-- that there is no change without one. An entry's id begins with its time; its fields are by,
-- what, subject and, as JSON, before and after.
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
  redis.call('XTRIM', key, 'MINID', '~', format('%.0f', max(0, now - retention)))
  redis.call('PEXPIRE', key, Clock.px(retention))
end
end
