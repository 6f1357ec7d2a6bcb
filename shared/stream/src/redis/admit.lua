
-- Admits batches, one after the other, each completely or not at all. (`#!lua` and clock.lua precede this
-- text: Redis refuses such a script before its first command when it is full, is read-only or cannot
-- persist.)
--
-- KEYS   1 events   the shard's stream
--        2 epoch    the shard's epoch
--        3 shard    hash: clock_ms, backlog_events, backlog_bytes
--        then for each batch
--        + project  hash: tat (microseconds), month (yyyymm), used, accepted, pending
--        + marker   the marker of this batch id
-- ARGV   1 the epoch that the caller trusts    2 events that the backlog may hold    3 words of an entry
--        then for each batch
--        + events in it                   + project id
--        + packed bytes of it             + marker flags: k keyed, w awaited, - neither
--        + interval, microseconds         + digest of the body in hex, or -
--        + tolerance, microseconds        + fields and values of the entry
--        + events a month, -1 for unlimited
-- Answer for each batch {word, now_us, tat_us, used, extra}. extra is the id of the entry for ADMITTED, received_ms for
--        REPEATED, wait_us for RATE_LIMITED, and the error of the server for FAILED. When the epoch is not the trusted
--        one, the answer is {'EPOCH_CHANGED'} alone.
--
-- Lua has no rollback. For each batch, all checks are before its XADD. XADD may fail, and then changes
-- nothing. Nothing after it can fail. The arithmetic is that of LimitState::charge in
-- shared/event/src/plan.rs; a property test compares the two.
local batches = (#KEYS - 3) / 2
local words = tonumber(ARGV[3])
local stride = 8 + words
assert(batches >= 1 and words >= 2 and words % 2 == 0 and #ARGV == 3 + batches * stride,
  'admit: expected 3 keys and 2 for each batch, 3 arguments and 8 plus the words of the entry for each batch')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {{'EPOCH_CHANGED'}}
end

local shard = redis.call('HMGET', KEYS[3], 'clock_ms', 'backlog_events', 'backlog_bytes')
local backlog_events, backlog_bytes = tonumber(shard[2]) or 0, tonumber(shard[3]) or 0
local backlog_events_max = tonumber(ARGV[2])
local now = clock_us(shard[1])
local month = month_of(now)
local received_ms = string.format('%.0f', math.floor(now / 1000))

-- The markers of these batches, and those to write.
local marker_keys, markers, new_markers = {}, {}, {}
for batch = 1, batches do
  marker_keys[batch] = KEYS[3 + 2 * batch]
end
for batch, marker in ipairs(redis.call('MGET', unpack(marker_keys))) do
  markers[marker_keys[batch]] = marker
end

local projects = {}
local function project_at(key)
  local project = projects[key]
  if not project then
    local row = redis.call('HMGET', key, 'tat', 'month', 'used', 'accepted', 'pending')
    project = {
      tat = tonumber(row[1]) or 0, used = tonumber(row[2]) == month and tonumber(row[3]) or 0,
      accepted = tonumber(row[4]) or 0, pending = tonumber(row[5]) or 0,
    }
    projects[key] = project
  end
  return project
end

local function admit_one(project, marker_key, at)
  local count, digest = tonumber(ARGV[at]), ARGV[at + 7]
  local marker = markers[marker_key]
  if marker then
    local first_ms, first_digest = string.match(marker, '^%a %S+ %S+ %d+ (%d+) (%S+)')
    if first_digest == '-' or digest == '-' or digest == first_digest then
      return 'REPEATED', tonumber(first_ms)
    end
    return 'CONFLICT'
  end
  if backlog_events + count > backlog_events_max then
    return 'BACKLOG_FULL'
  end
  local next_tat = math.max(project.tat, now) + tonumber(ARGV[at + 2])
  local latest = now + tonumber(ARGV[at + 3])
  if next_tat > latest then
    return 'RATE_LIMITED', next_tat - latest
  end
  local quota = tonumber(ARGV[at + 4])
  if quota >= 0 and project.used + count > quota then
    return 'QUOTA_EXCEEDED'
  end
  local added = redis.pcall('XADD', KEYS[1], received_ms .. '-*', unpack(ARGV, at + 8, at + stride - 1))
  if type(added) == 'table' and added.err then
    return 'FAILED', added.err
  end
  marker = 'p ' .. ARGV[at + 6] .. ' ' .. ARGV[at + 5] .. ' ' .. ARGV[at] .. ' ' .. received_ms .. ' ' .. digest
  markers[marker_key] = marker
  new_markers[#new_markers + 1], new_markers[#new_markers + 2] = marker_key, marker
  project.tat, project.used = next_tat, project.used + count
  project.accepted, project.pending = project.accepted + count, project.pending + count
  project.charged = true
  backlog_events, backlog_bytes = backlog_events + count, backlog_bytes + tonumber(ARGV[at + 1])
  return 'ADMITTED', added
end

local answers = {}
for batch = 1, batches do
  local project = project_at(KEYS[2 + 2 * batch])
  local word, extra = admit_one(project, KEYS[3 + 2 * batch], 4 + (batch - 1) * stride)
  answers[batch] = {word, now, project.tat, project.used, extra}
end

local admitted = false
for key, project in pairs(projects) do
  if project.charged then
    admitted = true
    redis.call('HSET', key, 'tat', project.tat, 'month', month, 'used', project.used, 'accepted', project.accepted,
      'pending', project.pending)
  end
end
if admitted then
  redis.call('MSET', unpack(new_markers))
  redis.call('HSET', KEYS[3], 'clock_ms', received_ms, 'backlog_events', backlog_events, 'backlog_bytes', backlog_bytes)
end
return answers
