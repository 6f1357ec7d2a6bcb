
-- The clock of a shard; precedes every script that needs the time. All arithmetic is on integers far below
-- 2^53, so Lua's numbers are exact and agree with shared/event/src/plan.rs to the microsecond.

-- Microseconds since 1970. It never goes back within one shard, even when the clock of the machine does.
local function clock_us(shard_clock_ms)
  local time = redis.call('TIME')
  return math.max(time[1] * 1000000 + time[2], (tonumber(shard_clock_ms) or 0) * 1000)
end

-- Year * 100 + month (UTC): Howard Hinnant's civil_from_days, like month_of in plan.rs.
local function month_of(us)
  local days = math.floor(us / 86400000000) + 719468
  local era = math.floor(days / 146097)
  local day_of_era = days % 146097
  local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era
    - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local shifted_month = math.floor((5 * day_of_year + 2) / 153)
  local month = shifted_month < 10 and shifted_month + 3 or shifted_month - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  return year * 100 + month
end
