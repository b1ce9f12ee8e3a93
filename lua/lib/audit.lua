-- The audit: a stream to which whatever changes something appends what it was, in the same
-- script. An entry's id begins with its time; its fields are by, what, subject and, as JSON,
-- before and after.
-- Streams take no id that is not above their last: beside a clock that was set back time stands still.
-- @param retention in ms: older entries go, and the stream itself when all of them are older
local function append_audit(key, now, retention, by, what, subject, before, after)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local at, sequence = math.floor(now), 0
  if last then
    local last_at, last_sequence = string.match(last[1], '^(%d+)-(%d+)$')
    if tonumber(last_at) >= at then
      at, sequence = tonumber(last_at), tonumber(last_sequence) + 1
    end
  end
  local id = string.format('%.0f-%.0f', at, sequence)
  redis.call('XADD', key, id, 'by', by, 'what', what, 'subject', subject, 'before', before, 'after', after)
  redis.call('XTRIM', key, 'MINID', '~', string.format('%.0f', math.max(0, now - retention)))
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(retention, shortest_ttl_ms)))
end
