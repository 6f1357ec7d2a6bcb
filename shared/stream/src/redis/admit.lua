
-- Decides on the batches of a group, one after the other, and appends those that are admitted in one entry.
-- (`#!lua` and clock.lua precede this text: Redis refuses such a script before its first command when it is
-- full, is read-only or cannot persist.)
--
-- KEYS   1 events   the shard's stream
--        2 epoch    the shard's epoch
--        3 shard    hash: clock_ms, backlog_events, backlog_bytes
--        then for each batch
--        + project  hash: tat (microseconds), month (yyyymm), used, accepted, pending
--        + marker   the marker of this batch id
-- ARGV   1 the epoch that the caller trusts    2 events that the backlog may hold
--        3 the version of the entry, 4 its field t, 5 its field r
--        then for each batch
--        + events in it                   + events a month, -1 for unlimited
--        + interval, microseconds         + marker flags: k keyed, w awaited, - neither
--        + tolerance, microseconds        + digest of the body in hex, or -
--        + project id
-- Answer for each batch {word, now_us, tat_us, used, extra}. extra is the id of the entry for ADMITTED, received_ms for
--        REPEATED, wait_us for RATE_LIMITED, and the error of the server for FAILED. When the epoch is not the trusted
--        one, the answer is {'EPOCH_CHANGED'} alone.
--
-- Lua has no rollback. Everything is decided on local tables. Then XADD, which may fail and then changes
-- nothing. Nothing after it can fail. The arithmetic is that of LimitState::charge in
-- shared/event/src/plan.rs; a property test compares the two.
local STRIDE = 7
local batches = (#KEYS - 3) / 2
assert(batches >= 1 and #ARGV == 5 + batches * STRIDE,
  'admit: expected 3 keys and 2 for each batch, 5 arguments and 7 for each batch')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {{'EPOCH_CHANGED'}}
end

local shard = redis.call('HMGET', KEYS[3], 'clock_ms', 'backlog_events', 'backlog_bytes')
local backlog_events, backlog_bytes = tonumber(shard[2]) or 0, tonumber(shard[3]) or 0
local backlog_events_max = tonumber(ARGV[2])
local now = clock_us(shard[1])
local month = month_of(now)
local received_ms = string.format('%.0f', math.floor(now / 1000))

-- The markers of these batches as they are, and those to write.
local marker_keys, stored, markers, new_markers = {}, {}, {}, {}
for batch = 1, batches do
  marker_keys[batch] = KEYS[3 + 2 * batch]
end
for batch, marker in ipairs(redis.call('MGET', unpack(marker_keys))) do
  stored[marker_keys[batch]], markers[marker_keys[batch]] = marker, marker
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

local function decide(project, marker_key, at)
  local count, interval, tolerance, project_id, quota, flags, digest = unpack(ARGV, at, at + STRIDE - 1)
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
  local next_tat = math.max(project.tat, now) + interval
  local latest = now + tolerance
  if next_tat > latest then
    return 'RATE_LIMITED', next_tat - latest
  end
  quota = tonumber(quota)
  if quota >= 0 and project.used + count > quota then
    return 'QUOTA_EXCEEDED'
  end
  marker = 'p ' .. flags .. ' ' .. project_id .. ' ' .. count .. ' ' .. received_ms .. ' ' .. digest
  markers[marker_key] = marker
  new_markers[#new_markers + 1], new_markers[#new_markers + 2] = marker_key, marker
  project.tat, project.used = next_tat, project.used + count
  project.accepted, project.pending = project.accepted + count, project.pending + count
  project.charged = true
  backlog_events = backlog_events + count
  return 'ADMITTED'
end

local answers, admitted, first = {}, {}, nil
for batch = 1, batches do
  local project = project_at(KEYS[2 + 2 * batch])
  local word, extra = decide(project, marker_keys[batch], 6 + (batch - 1) * STRIDE)
  answers[batch] = {word, now, project.tat, project.used, extra}
  admitted[batch] = word == 'ADMITTED' and '1' or '0'
  first = first or word == 'ADMITTED' and batch
end
if not first then
  return answers
end

local added = redis.pcall('XADD', KEYS[1], received_ms .. '-*', 'v', ARGV[3], 'a', table.concat(admitted), 't', ARGV[4],
  'r', ARGV[5])
if type(added) == 'table' and added.err then
  -- From the first admission on, what was decided depends on batches that are not in the stream. What the
  -- stream knew before stays true.
  for batch = first, batches do
    if not stored[marker_keys[batch]] then
      answers[batch] = {'FAILED', now, 0, 0, added.err}
    end
  end
  return answers
end

for batch = first, batches do
  if answers[batch][1] == 'ADMITTED' then
    answers[batch][5] = added
  end
end
for key, project in pairs(projects) do
  if project.charged then
    redis.call('HSET', key, 'tat', project.tat, 'month', month, 'used', project.used, 'accepted', project.accepted,
      'pending', project.pending)
  end
end
redis.call('MSET', unpack(new_markers))
redis.call('HSET', KEYS[3], 'clock_ms', received_ms, 'backlog_events', backlog_events, 'backlog_bytes',
  backlog_bytes + #ARGV[5])
return answers
