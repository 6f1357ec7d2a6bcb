
-- Returns the limit state of a project. (`#!lua flags=no-writes` and clock.lua precede this text.)
--
-- KEYS   1 shard  2 project, as in admit.lua
-- Answer {now_us, tat_us, used}
assert(#KEYS == 2 and #ARGV == 0, 'limit_state: expected 2 keys')

local now = clock_us(redis.call('HGET', KEYS[1], 'clock_ms'))
local project = redis.call('HMGET', KEYS[2], 'tat', 'month', 'used')
local used = tonumber(project[2]) == month_of(now) and tonumber(project[3]) or 0
return {now, tonumber(project[1]) or 0, used}
