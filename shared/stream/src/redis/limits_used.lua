
-- Returns what is used of limits now. (`#!lua flags=no-writes`, clock.lua and limit_clock.lua precede this text.)
--
-- KEYS   1 shard  2 epoch, then for each counter its key, as in admit.lua
-- ARGV   1 the epoch that the caller trusts, then for each counter the letter of its period
-- Answer {now_us, units and billionths of each counter, separated by spaces}; {-1, ''} when the epoch is not the
--        trusted one
assert(#KEYS >= 2 and #ARGV == #KEYS - 1, 'limits_used: the keys and arguments do not match')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {-1, ''}
end
local now = clock_us(redis.call('HGET', KEYS[1], 'clock_ms'))
local used = {}
for at = 3, #KEYS do
  local row = redis.call('HMGET', KEYS[at], 'window', 'units', 'billionths')
  local is_current = tonumber(row[1]) == window_of(ARGV[at - 1], now)
  used[#used + 1] = is_current and row[2] .. ' ' .. row[3] or '0 0'
end
return {now, table.concat(used, ' ')}
