
-- Returns the counters of projects. (`#!lua flags=no-writes` precedes this text.)
--
-- KEYS   the projects, as in admit.lua
-- Answer for each project {accepted, pending, month, used}; nil for a counter that it does not have
assert(#KEYS >= 1 and #ARGV == 0, 'counters: expected at least one key')

local counters = {}
for at, key in ipairs(KEYS) do
  counters[at] = redis.call('HMGET', key, 'accepted', 'pending', 'month', 'used')
end
return counters
