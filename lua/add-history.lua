--[[
  Adds what a process has counted to the history: to series of points, and to top lists. A batch that comes twice (its
  reply was lost, and the command was sent again) is added once.

  A series is a hash. Per resolution (m, h, d: RESOLUTION) the field of its name is the point under way,
  '<slot>|<name>=<number>|…', and the fields <name><chunk> are chunks of points that are over, '<chunk>;<point>;…', in
  a ring. The resolution t is one point since a time, which stands in place of the slot. Numbers are added; one whose
  name begins with ^ is the highest. A point has at most 120 of them: further names with a colon are left out.

  A top list is a sorted set of at most so many names, by the space-saving algorithm: a name that is new in a full list
  takes the place and the count of the last one. A hash beside it has how much of a name's count it may have taken over.

  KEYS[1]     the number of the sender's last batch
  KEYS[2…]    series, top lists and their hashes, where the batch names them by their places
  ARGV[1]     now in ms, '' for Redis' clock
  ARGV[2]     the number of the batch
  ARGV[3]     JSON: { series: [[key, resolutions, 'name=number|…'], …], tops: [[key, key of its hash or 0, size, stay in ms, name, number, …], …] }

  Reply       per name that left a top list: the place of the list in the batch, counted from 1, and the name
  Cost        per series and resolution one HGET, one HSET; where a point is over two more, and one PEXPIRE; per name
              of a top list one ZINCRBY, where it is new in a full list one ZPOPMIN more
]]
--- @include "lib/clock.lua"

local POINT_FIELDS = 120

local floor, format, max, huge = math.floor, string.format, math.max, math.huge
local find, gmatch, match, sub = string.find, string.gmatch, string.match, string.sub
local now = Clock.now(ARGV[1])
if tonumber(ARGV[2]) <= (tonumber(redis.call('GET', KEYS[1]) or 0) or 0) then return {} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', Clock.px(SENDER_TTL_MS))

-- A point with the numbers added, as text.
local function merged(slot, point, added)
  local names, values, count = {}, {}, 0
  local function add(name, text)
    local value = tonumber(text)
    if not value or value ~= value or value >= huge or value <= -huge then return end
    local known = values[name]
    if known == nil then
      if count >= POINT_FIELDS and find(name, ':', 1, true) then return end
      count = count + 1
      names[count] = name
      values[name] = value
    elseif sub(name, 1, 1) == '^' then
      values[name] = max(known, value)
    else
      values[name] = known + value
    end
  end
  for name, value in gmatch(point, '([^=|]+)=([^|]*)') do
    add(name, value)
  end
  for name, value in gmatch(added, '([^=|]+)=([^|]*)') do
    add(name, value)
  end
  local parts = { slot }
  for i, name in ipairs(names) do
    parts[i + 1] = name .. '=' .. format('%.14g', values[name])
  end
  return table.concat(parts, '|')
end

-- @return whether the point is the first of its slot
local function add_point(key, name, added)
  local ms, per_chunk, chunks = unpack(RESOLUTION[name])
  local point = redis.call('HGET', key, name) or ''
  local slot = tonumber(match(point, '^%d+'))
  local current = ms == 0 and (slot or floor(now)) or floor(now / ms)
  local is_first = slot == nil
  if slot and current > slot then
    local chunk = floor(slot / per_chunk)
    local field, head = name .. format('%d', chunk % chunks), format('%.0f', chunk)
    local points = redis.call('HGET', key, field)
    if not points or match(points, '^%d+') ~= head then points = head end
    redis.call('HSET', key, field, points .. ';' .. point)
    point, is_first = '', true
  end
  -- Where the clock went back, the point under way takes what comes.
  if slot and current < slot then current = slot end
  redis.call('HSET', key, name, merged(format('%.0f', current), point, added))
  return is_first
end

local function add_names(place, entry, evicted)
  local key, hash, size = KEYS[entry[1]], KEYS[entry[2]], entry[3]
  for i = 5, #entry, 2 do
    local name, count = entry[i], entry[i + 1]
    if not redis.call('ZSCORE', key, name) and redis.call('ZCARD', key) >= size then
      local last, least = unpack(redis.call('ZPOPMIN', key))
      evicted[#evicted + 1] = place
      evicted[#evicted + 1] = last
      count = count + tonumber(least)
      if hash then
        redis.call('HDEL', hash, last)
        redis.call('HSET', hash, name, least)
      end
    end
    redis.call('ZINCRBY', key, Clock.text(count), name)
  end
  local stay = Clock.px(entry[4])
  redis.call('PEXPIRE', key, stay)
  if hash then redis.call('PEXPIRE', hash, stay) end
end

local batch, evicted = cjson.decode(ARGV[3]), {}
for _, entry in ipairs(batch.series) do
  local key, longest = KEYS[entry[1]], 0
  for name in gmatch(entry[2], '%a') do
    if add_point(key, name, entry[3]) then longest = max(longest, RESOLUTION[name][4]) end
  end
  if longest > 0 then redis.call('PEXPIRE', key, Clock.px(longest)) end
end
for place, entry in ipairs(batch.tops) do
  add_names(place, entry, evicted)
end
return evicted
