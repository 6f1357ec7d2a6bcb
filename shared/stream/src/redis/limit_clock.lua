
-- The windows of limits, like Period::window in shared/event/src/limit/counter.rs; follows clock.lua.
local function window_of(period, us)
  if period == 'm' then
    return month_of(us)
  end
  return math.floor(us / (period == 'd' and 86400000000 or 3600000000))
end
