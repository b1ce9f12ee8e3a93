-- Figures: what the ledger comes to, in a hash that is written once per batch.
--   open:<hour>   entries opened in that hour (since the epoch) and not closed. Entries older than
--                 LEDGER_TTL_MS have expired: their calls were never settled. Once an hour they are
--                 summed up as `expired`
--   settled, released   entries closed, by the end of their calls and by being given back
--   estimated, actual   tokens of the calls that settled
local Figures = {}
do
local floor = math.floor
local FIGURES_TTL = string.format('%.0f', 30 * 86400000)
local HOUR_MS = 3600000

function Figures.count(batch, figure, amount)
  batch.figures[figure] = (batch.figures[figure] or 0) + amount
end

function Figures.count_open(batch, at, amount)
  local hour, open = floor(at / HOUR_MS), batch.open
  open[hour] = (open[hour] or 0) + amount
end

-- Tokens may come in fractions, and HINCRBY fails on a field that holds one.
local FRACTIONS = { estimated = true, actual = true }

-- An entry that was opened at the end of an hour ends a day after that hour.
local function sum_up_expired(now)
  local fields = redis.call('HGETALL', KEYS[FIXED.FIGURES])
  for i = 1, #fields, 2 do
    local hour = tonumber(string.match(fields[i], '^open:(-?%d+)$'))
    if hour and (hour + 1) * HOUR_MS + LEDGER_TTL_MS <= now then
      redis.call('HINCRBY', KEYS[FIXED.FIGURES], 'expired', fields[i + 1])
      redis.call('HDEL', KEYS[FIXED.FIGURES], fields[i])
    end
  end
end

function Figures.save(batch, now)
  local any = false
  for hour, amount in pairs(batch.open) do
    Figures.count(batch, string.format('open:%d', hour), amount)
  end
  for figure, amount in pairs(batch.figures) do
    if amount ~= 0 and FRACTIONS[figure] then
      redis.call('HINCRBYFLOAT', KEYS[FIXED.FIGURES], figure, string.format('%.17g', amount))
      any = true
    elseif amount ~= 0 then
      local total = redis.call('HINCRBY', KEYS[FIXED.FIGURES], figure, string.format('%.0f', amount))
      any = true
      -- The first of its hour.
      if total == amount and string.sub(figure, 1, 5) == 'open:' then sum_up_expired(now) end
    end
  end
  if any then redis.call('PEXPIRE', KEYS[FIXED.FIGURES], FIGURES_TTL) end
end

-- So many entries were opened, and nothing else has happened.
function Figures.opened(count, now)
  local batch = { figures = {}, open = {} }
  Figures.count_open(batch, now, count)
  Figures.save(batch, now)
end
end
