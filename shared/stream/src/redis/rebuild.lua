
-- Replaces every counter of a shard and gives it a new epoch, if the shard is still fenced for this rebuild
-- and its stream holds the entries that were counted. (`#!lua flags=allow-oom` and clock.lua precede this
-- text: nothing can be settled without an epoch, so a full server must be able to get one.)
--
-- KEYS   1 events  2 epoch  3 shard  4 attempts, then every project,
--        then the marker of every entry with a batch id
-- ARGV   1 the fence, 2 the new epoch, 3 the group, 4 projects, 5 entries,
--        6 first id, 7 last id (both empty when there are no entries),
--        8 events in the entries with a batch id, 9 packed bytes in them,
--        10 the least clock in milliseconds,
--        then for each project: month, used, accepted, pending; then for each marker: its value
-- Answer 1; 0 with nothing changed when the fence or the entries are not as expected.
local project_count = tonumber(ARGV[4])
local marker_count = #KEYS - 4 - project_count
assert(marker_count >= 0 and #ARGV == 10 + 4 * project_count + marker_count,
  'rebuild: the keys and arguments do not match')

local function id_at(end_of_stream)
  local entries = redis.call(end_of_stream == 'first' and 'XRANGE' or 'XREVRANGE', KEYS[1],
    end_of_stream == 'first' and '-' or '+', end_of_stream == 'first' and '+' or '-', 'COUNT', 1)
  return entries[1] and entries[1][1] or ''
end

if redis.call('GET', KEYS[2]) ~= ARGV[1]
  or redis.call('XLEN', KEYS[1]) ~= tonumber(ARGV[5])
  or id_at('first') ~= ARGV[6] or id_at('last') ~= ARGV[7] then
  return 0
end

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[3], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
  return made
end

-- The clock continues from the last entry that was ever in the stream: a smaller id could not be appended.
local last_ms = 0
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for field = 1, #info, 2 do
  if info[field] == 'last-generated-id' then
    last_ms = tonumber(string.match(info[field + 1], '^%d+'))
  end
end
local clock_ms = tonumber(redis.call('HGET', KEYS[3], 'clock_ms')) or 0
local now = clock_us(math.max(last_ms, clock_ms, tonumber(ARGV[10])))

for project = 0, project_count - 1 do
  local month, used, accepted, pending = unpack(ARGV, 11 + 4 * project, 14 + 4 * project)
  redis.call('HSET', KEYS[5 + project], 'tat', now, 'month', month, 'used', used,
    'accepted', accepted, 'pending', pending)
end
for marker = 1, marker_count do
  redis.call('SET', KEYS[4 + project_count + marker], ARGV[10 + 4 * project_count + marker], 'NX')
end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[3], 'clock_ms', math.floor(now / 1000), 'backlog_events', ARGV[8], 'backlog_bytes', ARGV[9])
redis.call('SET', KEYS[2], ARGV[2])
return 1
