
-- Tells a project's standing and changes nothing. (`#!lua flags=no-writes` and clock.lua stand in front.)
--
-- KEYS   1 shard  2 project, as in admit.lua
-- Answer {now_us, tat_us, used}
assert(#KEYS == 2 and #ARGV == 0, 'standing: 2 keys')

local now = clock_us(redis.call('HGET', KEYS[1], 'clock_ms'))
local project = redis.call('HMGET', KEYS[2], 'tat', 'month', 'used')
local used = tonumber(project[2]) == month_of(now) and tonumber(project[3]) or 0
return {now, tonumber(project[1]) or 0, used}
