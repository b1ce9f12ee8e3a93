-- What the ledger comes to, in a hash (KEYS[6]):
--   open:<hour>   entries opened in that hour (since the epoch) and not closed. Those older
--                 than an entry lives have expired: nobody said what these calls cost. Once
--                 an hour they are summed up as `expired`
--   settled, released   entries closed, by their end and by being given back
--   estimated, actual   tokens of those that settled
-- Written once per batch.
local FIGURES_TTL = string.format('%.0f', 30 * 86400000)
local HOUR_MS = 3600000

local function count(batch, figure, amount)
  batch.figures[figure] = (batch.figures[figure] or 0) + amount
end

local function count_open(batch, at, amount)
  local hour, open = floor(at / HOUR_MS), batch.open
  open[hour] = (open[hour] or 0) + amount
end

-- Entries are counted whole, tokens may come in fractions: what was one once is no integer to Redis.
local FRACTIONS = { estimated = true, actual = true }

-- An entry that was opened at the end of an hour ends a day after that hour.
local function sum_up_expired(now)
  local fields = redis.call('HGETALL', KEYS[6])
  for i = 1, #fields, 2 do
    local hour = tonumber(string.match(fields[i], '^open:(-?%d+)$'))
    if hour and (hour + 1) * HOUR_MS + LEDGER_TTL_MS <= now then
      redis.call('HINCRBY', KEYS[6], 'expired', fields[i + 1])
      redis.call('HDEL', KEYS[6], fields[i])
    end
  end
end

local function save_figures(batch, now)
  local any = false
  for hour, amount in pairs(batch.open) do
    count(batch, string.format('open:%d', hour), amount)
  end
  for figure, amount in pairs(batch.figures) do
    if amount ~= 0 and FRACTIONS[figure] then
      redis.call('HINCRBYFLOAT', KEYS[6], figure, string.format('%.17g', amount))
      any = true
    elseif amount ~= 0 then
      local total = redis.call('HINCRBY', KEYS[6], figure, string.format('%.0f', amount))
      any = true
      if total == amount and string.sub(figure, 1, 5) == 'open:' then
        -- The first of its hour.
        sum_up_expired(now)
      end
    end
  end
  if any then
    redis.call('PEXPIRE', KEYS[6], FIGURES_TTL)
  end
end
