#!lua flags=allow-oom
-- Removes consumers that are idle and have nothing pending. The check and the removal must be one step,
-- because XGROUP DELCONSUMER also removes the pending entries of the consumer.
--
-- KEYS   1 events
-- ARGV   1 the group, 2 idle milliseconds, 3 the only consumer to check, or '' for all
-- Answer the number of removed consumers
assert(#KEYS == 1 and #ARGV == 3, 'retire: expected 1 key and 3 arguments')

local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then
  return 0
end
local removed = 0
for _, row in ipairs(consumers) do
  local consumer = {}
  for at = 1, #row, 2 do
    consumer[row[at]] = row[at + 1]
  end
  local chosen = ARGV[3] == '' or ARGV[3] == consumer.name
  if chosen and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed = removed + 1
  end
end
return removed
