
-- Returns the backlog of a shard. (`#!lua flags=no-writes` and clock.lua precede this text.)
--
-- KEYS   1 events  2 shard
-- Answer {entries, events, packed bytes, age of the oldest entry in milliseconds}
assert(#KEYS == 2 and #ARGV == 0, 'backlog: expected 2 keys')

local shard = redis.call('HMGET', KEYS[2], 'clock_ms', 'backlog_events', 'backlog_bytes')
local age_ms = 0
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if oldest then
  age_ms = math.max(0, math.floor(clock_us(shard[1]) / 1000) - tonumber(string.match(oldest[1], '^%d+')))
end
return {redis.call('XLEN', KEYS[1]), tonumber(shard[2]) or 0, tonumber(shard[3]) or 0, age_ms}
