
-- Removes committed entries from the stream, and refunds duplicates and dead events once for each entry.
-- (`#!lua flags=allow-oom`, clock.lua, limit_clock.lua and group_markers.lua precede this text: a full server must be
-- able to drain.)
--
-- KEYS   1 events  2 epoch  3 shard  4 attempts, then every project,
--        then once for each group of batches its markers, and for each batch without a group its marker,
--        then for each refund to a limit of a customer its counter
-- ARGV   1 the epoch that the caller trusts, 2 the group, 3 projects, 4 markers, 5 entries,
--        6 for each batch of each entry, as in BATCH: its project, its marker, its place in the group (0 for a batch
--          without one), events, stored, duplicate, dead, conflict
--        then for each entry: id, packed bytes, batches,
--        then for each refund: the number of its batch, the letter of its period, units, billionths
-- Answer the number of entries that were still pending; -1 when the epoch is not the trusted one.
--
-- XACK decides: only the call that takes the entry off the pending list counts it, so two lanes that wrote
-- the same entry refund it once. A batch was admitted if its marker is pending and names its project. A
-- batch without such a marker was appended by another program: it was never charged or counted. It is counted
-- as accepted here, and charged for its stored events, so that the sums stay balanced.

-- How long the outcome of a batch without a group is remembered, in seconds. Every outcome is kept for a short time: a
-- client that lost the answer to its admission repeats it within seconds, and the batch may be settled by then.
local SETTLED_KEYED_S, SETTLED_AWAITED_S, SETTLED_S = 86400, 60, 15
local BATCH, BATCH_BYTES, BILLION = '>I2I2BI4I4I4I4I4', 25, 1000000000
local project_count, marker_count, entry_count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local packed, refunds_at = ARGV[6], 7 + 3 * entry_count
local refunds = #KEYS - 4 - project_count - marker_count
assert(refunds >= 0 and #ARGV == refunds_at - 1 + 4 * refunds, 'settle: the keys and arguments do not match')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return -1
end

local projects = {}
local function project_at(key)
  if not projects[key] then
    local row = redis.call('HMGET', key, 'month', 'used', 'accepted', 'pending')
    projects[key] = {
      name = tonumber(string.match(key, '[^:]+$')), month = tonumber(row[1]), used = tonumber(row[2]) or 0,
      accepted = tonumber(row[3]) or 0, pending = tonumber(row[4]) or 0,
    }
  end
  return projects[key]
end

local shard = redis.call('HMGET', KEYS[3], 'backlog_events', 'backlog_bytes')
local backlog_events, backlog_bytes = tonumber(shard[1]) or 0, tonumber(shard[2]) or 0
local settled, was_pending = 0, {}

local stored, groups, markers, ids = {}, {}, {}, {}
if marker_count > 0 then
  stored = redis.call('MGET', unpack(KEYS, 5 + project_count, 4 + project_count + marker_count))
end
for entry = 1, entry_count do
  ids[entry] = ARGV[4 + 3 * entry]
end
if entry_count > 0 then
  redis.call('HDEL', KEYS[4], unpack(ids))
end

-- When the batches that are settled here were received, in milliseconds, by the number of the batch.
local received = {}

local function group_at(marker)
  local group = groups[marker] or group_of(KEYS[4 + project_count + marker], stored[marker])
  groups[marker] = group
  return group
end

-- The pending marker of a batch: project, events and received_ms. Nil when it has none.
local function pending_marker(marker, place)
  if place > 0 then
    local record, state = record_of(group_at(marker), place)
    if state ~= PENDING then
      return nil
    end
    return select(2, struct.unpack(FORMAT, record))
  end
  local text = markers[marker] or stored[marker] or ''
  local name, charged, received_ms = string.match(text, '^p %S+ (%d+) (%d+) (%d+) %S+$')
  return tonumber(name), tonumber(charged), tonumber(received_ms)
end

-- Replaces the pending marker of a batch; the outcome is stored, duplicate, dead and conflict.
local function write_outcome(marker, place, name, charged, received_ms, ...)
  if place > 0 then
    put_record(group_at(marker), place, struct.pack(FORMAT, 's', name, charged, received_ms, ...), -1)
    return
  end
  local text = markers[marker] or stored[marker]
  local flags = string.match(text, '^p (%S+)')
  local keep_s = string.find(flags, 'k', 1, true) and SETTLED_KEYED_S
    or string.find(flags, 'w', 1, true) and SETTLED_AWAITED_S or SETTLED_S
  markers[marker] = 's' .. string.sub(text, 2) .. ' ' .. table.concat({...}, ' ')
  redis.call('SET', KEYS[4 + project_count + marker], markers[marker], 'EX', keep_s)
end

-- Counts one batch of an entry that was pending. Returns when it was admitted, or nil if it was not.
local function settle_one(id, project, marker, place, count, stored, duplicate, dead, conflict)
  local name, charged, received_ms = pending_marker(marker, place)
  if name and name == project.name then
    project.pending = project.pending - charged
    if duplicate + dead > 0 and project.month == month_of(received_ms * 1000) then
      project.used = math.max(0, project.used - duplicate - dead)
    end
    backlog_events = math.max(0, backlog_events - charged)
    write_outcome(marker, place, name, charged, received_ms, stored, duplicate, dead, conflict)
    return received_ms
  end
  project.accepted = project.accepted + count
  local month = month_of(tonumber(string.match(id, '^%d+')) * 1000)
  if (project.month or 0) < month then
    project.month, project.used = month, 0
  end
  if project.month == month then
    project.used = project.used + stored
  end
  return nil
end

local batch = 0
for entry, id in ipairs(ids) do
  local at = 4 + 3 * entry
  local last = batch + ARGV[at + 2]
  if redis.call('XACK', KEYS[1], ARGV[2], id) == 1 then
    settled = settled + 1
    was_pending[settled] = id
    local was_admitted = false
    for batch = batch + 1, last do
      local project, marker, place, count, stored, duplicate, dead, conflict =
        struct.unpack(BATCH, packed, (batch - 1) * BATCH_BYTES + 1)
      project = project_at(KEYS[4 + project])
      received[batch] = settle_one(id, project, marker, place, count, stored, duplicate, dead, conflict)
      was_admitted = was_admitted or received[batch] ~= nil
    end
    if was_admitted then
      backlog_bytes = math.max(0, backlog_bytes - ARGV[at + 1])
    end
  end
  batch = last
end
for _, group in pairs(groups) do
  write_group(group)
end

for refund = 1, refunds do
  local key, at = KEYS[4 + project_count + marker_count + refund], refunds_at + 4 * (refund - 1)
  local received_ms, period = received[tonumber(ARGV[at])], ARGV[at + 1]
  local row = redis.call('HMGET', key, 'window', 'units', 'billionths')
  if received_ms and tonumber(row[1]) == window_of(period, received_ms * 1000) then
    local units, billionths = row[2] - ARGV[at + 2], row[3] - ARGV[at + 3]
    if billionths < 0 then
      units, billionths = units - 1, billionths + BILLION
    end
    if units < 0 then
      units, billionths = 0, 0
    end
    redis.call('HSET', key, 'units', units, 'billionths', billionths)
  end
end

if settled > 0 then
  redis.call('XDEL', KEYS[1], unpack(was_pending))
  if redis.call('XLEN', KEYS[1]) == 0 then
    backlog_events, backlog_bytes = 0, 0
  end
  redis.call('HSET', KEYS[3], 'backlog_events', backlog_events, 'backlog_bytes', backlog_bytes)
  for key, project in pairs(projects) do
    redis.call('HSET', key, 'month', project.month or 0, 'used', project.used, 'accepted', project.accepted,
      'pending', project.pending)
  end
end
return settled
