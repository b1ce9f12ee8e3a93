--[[
  Notes events of calls in their jobs, so that they are kept for as long as these are. A job that is gone is not made
  anew. Of the events of a call the first 4 and the last 14 are kept: '<left out>\n<event>\n…', each one line of JSON.

  KEYS        the jobs, each once
  ARGV        per job its events, each with a line break behind it, and its limits at its start ('' = no start)

  An event that is noted already is left out: a command whose reply was lost comes twice.

  Reply       how many jobs were there
  Cost        per job one EXISTS, one HGET, one HSET
]]
local FIRST, MOST = 4, 18

local function appended(kept, added)
  local left_out, lines, known = 0, {}, {}
  local head, rest = string.match(kept, '^(%d+)\n(.*)$')
  if head then left_out = tonumber(head) end
  for line in string.gmatch((rest or '') .. added, '([^\n]+)\n') do
    if not known[line] then lines[#lines + 1] = line end
    known[line] = true
  end
  while #lines > MOST do
    table.remove(lines, FIRST + 1)
    left_out = left_out + 1
  end
  return string.format('%d\n', left_out) .. table.concat(lines, '\n') .. '\n'
end

local noted = 0
for i, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    local events = appended(redis.call('HGET', key, EVENTS_FIELD) or '', ARGV[2 * i - 1])
    local limits = ARGV[2 * i]
    if limits == '' then
      redis.call('HSET', key, EVENTS_FIELD, events)
    else
      redis.call('HSET', key, EVENTS_FIELD, events, LIMITS_FIELD, limits)
    end
    noted = noted + 1
  end
end
return noted
