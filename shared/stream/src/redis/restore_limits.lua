#!lua flags=allow-oom
-- Sets counters of limits for an epoch that a rebuild is about to give to the shard. (A full server must be able
-- to get one.)
--
-- KEYS   1 epoch, then for each counter its key, as in admit.lua
-- ARGV   1 the fence, then for each counter: window, units, billionths
-- Answer 1; 0 with nothing changed when the shard is not fenced for this rebuild.
assert(#KEYS >= 1 and #ARGV == 3 * #KEYS - 2, 'restore_limits: the keys and arguments do not match')

-- As in admit.lua.
local KEPT_S = 3456000
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for at = 2, #KEYS do
  local window, units, billionths = unpack(ARGV, 3 * at - 4, 3 * at - 2)
  redis.call('HSET', KEYS[at], 'window', window, 'units', units, 'billionths', billionths)
  redis.call('EXPIRE', KEYS[at], KEPT_S)
end
return 1
