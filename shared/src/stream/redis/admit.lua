
-- Admits one batch, or changes nothing. (`#!lua` and clock.lua stand in front of this text: a server that is full,
-- read-only or cannot persist refuses a script so declared before its first command.)
--
-- KEYS   1 events   the shard's stream
--        2 epoch    the shard's epoch
--        3 shard    hash: clock_ms, backlog_events, backlog_bytes
--        4 project  hash: tat (microseconds), month (yyyymm), used, accepted, pending
--        5 marker   what is remembered of this batch id
-- ARGV   1 the epoch the caller trusts         6 tolerance, microseconds
--        2 events the backlog may hold         7 events a month, -1 for unlimited
--        3 events in the batch                 8 project id
--        4 packed bytes of the batch           9 marker flags: k keyed, w awaited, - neither
--        5 interval, microseconds             10 digest of the body in hex, or -
--        11.. fields and values of the entry
-- Answer {word, now_us, tat_us, used, extra}; extra is received_ms of ADMITTED and REPEATED, wait_us of RATE_LIMITED.
--        {'EPOCH_CHANGED'} alone.
--
-- Lua has no rollback: whatever can refuse or fail stands before XADD, and nothing after it can. The arithmetic is
-- Standing::charge of shared/src/plan.rs; a property test holds the two together.
assert(#KEYS == 5 and #ARGV > 10 and #ARGV % 2 == 0, 'admit: 5 keys, 10 arguments and pairs')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {'EPOCH_CHANGED'}
end

local shard = redis.call('HMGET', KEYS[3], 'clock_ms', 'backlog_events', 'backlog_bytes')
local project = redis.call('HMGET', KEYS[4], 'tat', 'month', 'used', 'accepted', 'pending')
local marker = redis.call('GET', KEYS[5])
local count = tonumber(ARGV[3])
local now = clock_us(shard[1])
local month = month_of(now)
local tat = tonumber(project[1]) or 0
local used = tonumber(project[2]) == month and tonumber(project[3]) or 0

if marker then
  local received_ms, digest = string.match(marker, '^%a %S+ %S+ %d+ (%d+) (%S+)')
  if digest == '-' or ARGV[10] == '-' or digest == ARGV[10] then
    return {'REPEATED', now, tat, used, tonumber(received_ms)}
  end
  return {'CONFLICT', now, tat, used}
end

local backlog_events = (tonumber(shard[2]) or 0) + count
if backlog_events > tonumber(ARGV[2]) then
  return {'BACKLOG_FULL', now, tat, used}
end

local next_tat = math.max(tat, now) + tonumber(ARGV[5])
local latest = now + tonumber(ARGV[6])
if next_tat > latest then
  return {'RATE_LIMITED', now, tat, used, next_tat - latest}
end
local quota = tonumber(ARGV[7])
if quota >= 0 and used + count > quota then
  return {'QUOTA_EXCEEDED', now, tat, used}
end

local received_ms = string.format('%.0f', math.floor(now / 1000))
redis.call('XADD', KEYS[1], received_ms .. '-*', unpack(ARGV, 11))
redis.call('HSET', KEYS[3], 'clock_ms', received_ms, 'backlog_events', backlog_events,
  'backlog_bytes', (tonumber(shard[3]) or 0) + tonumber(ARGV[4]))
redis.call('HSET', KEYS[4], 'tat', next_tat, 'month', month, 'used', used + count,
  'accepted', (tonumber(project[4]) or 0) + count, 'pending', (tonumber(project[5]) or 0) + count)
redis.call('SET', KEYS[5], table.concat({'p', ARGV[9], ARGV[8], ARGV[3], received_ms, ARGV[10]}, ' '))
return {'ADMITTED', now, next_tat, used + count, tonumber(received_ms)}
