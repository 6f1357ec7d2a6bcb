
-- Replaces every counter of a shard and gives it a new epoch, if the shard is still fenced for this rebuild
-- and its stream holds the entries that were counted. (`#!lua flags=allow-oom`, clock.lua and group_markers.lua precede
-- this text: nothing can be settled without an epoch, so a full server must be able to get one.)
--
-- KEYS   1 events  2 epoch  3 shard  4 attempts, then every project,
--        then every string with markers of batches of the entries
-- ARGV   1 the fence, 2 the new epoch, 3 the group, 4 projects, 5 entries,
--        6 first id, 7 last id (both empty when there are no entries),
--        8 events in the entries with a batch id, 9 packed bytes in them,
--        10 the least clock in milliseconds,
--        then for each project: month, used, accepted, pending
--        then for each batch with an id, as in BATCH: its string, its place in it (0 for a batch without a group),
--        project, events, received_ms. The marker of a batch that has none does not say flags and digest, which are
--        not in the entry.
-- Answer 1; 0 with nothing changed when the fence or the entries are not as expected.
local project_count = tonumber(ARGV[4])
local BATCH, BATCH_BYTES = '>I4BI8I4I8', 25
local packed = ARGV[11 + 4 * project_count]
assert(#KEYS >= 4 + project_count and #ARGV == 11 + 4 * project_count and #packed % BATCH_BYTES == 0,
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
local groups = {}
for at = 1, #packed, BATCH_BYTES do
  local marker, place, project, count, received_ms = struct.unpack(BATCH, packed, at)
  local key = KEYS[4 + project_count + marker]
  if place == 0 then
    redis.call('SET', key, string.format('p - %.0f %.0f %.0f -', project, count, received_ms), 'NX')
  else
    groups[key] = groups[key] or group_of(key, redis.call('GET', key))
    local _, state = record_of(groups[key], place)
    if not state or state == 0 then
      put_record(groups[key], place, struct.pack(FORMAT, 'p', project, count, received_ms, 0, 0, 0, 0), 1)
    end
  end
end
for _, group in pairs(groups) do
  write_group(group)
end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[3], 'clock_ms', math.floor(now / 1000), 'backlog_events', ARGV[8], 'backlog_bytes', ARGV[9])
redis.call('SET', KEYS[2], ARGV[2])
return 1
