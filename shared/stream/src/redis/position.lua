
-- Returns where a shard stands. (`#!lua flags=no-writes` precedes this text.)
--
-- KEYS   1 events  2 epoch  3 shard
-- Answer {epoch or '', last id of the stream or '0-0', clock in milliseconds or '0'}
assert(#KEYS == 3 and #ARGV == 0, 'position: expected 3 keys')

local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for field = 1, #info, 2 do
    if info[field] == 'last-generated-id' then
      last = info[field + 1]
    end
  end
end
return {redis.call('GET', KEYS[2]) or '', last, redis.call('HGET', KEYS[3], 'clock_ms') or '0'}
