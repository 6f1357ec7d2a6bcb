
-- Removes committed entries from the stream, and refunds duplicates and dead events once for each entry.
-- (`#!lua flags=allow-oom`, clock.lua and limit_clock.lua precede this text: a full server must be able to drain.)
--
-- KEYS   1 events  2 epoch  3 shard  4 attempts, then for each batch of each entry: its marker, its project
-- ARGV   1 the epoch that the caller trusts, 2 the group,
--        then for each entry: id, packed bytes, batches, then for each of its batches:
--        events, stored, duplicate, dead, conflict
--        A call that gives amounts back to limits of customers has more, after all of these:
-- KEYS   + for each refund its counter
-- ARGV   + the word limits, then for each refund: the number of its batch, the letter of its period, units, billionths
-- Answer the number of entries that were still pending; -1 when the epoch is not the trusted one.
--
-- XACK decides: only the call that takes the entry off the pending list counts it, so two lanes that wrote
-- the same entry refund it once. A batch was admitted if its marker is pending and names its project. A
-- batch without such a marker was appended by another program: it was never charged or counted. It is counted
-- as accepted here, and charged for its stored events, so that the sums stay balanced.

-- How long an outcome is remembered, in seconds. Every outcome is kept for a short time: a client that lost
-- the answer to its admission repeats it within seconds, and the batch may be settled by then.
local SETTLED_KEYED_S, SETTLED_AWAITED_S, SETTLED_S = 86400, 60, 15
local BILLION = 1000000000
assert(#KEYS >= 4, 'settle: expected 4 keys and 2 for each batch')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return -1
end

local projects = {}
local function project_at(key)
  if not projects[key] then
    local row = redis.call('HMGET', key, 'month', 'used', 'accepted', 'pending')
    projects[key] = {
      name = string.match(key, '[^:]+$'), month = tonumber(row[1]), used = tonumber(row[2]) or 0,
      accepted = tonumber(row[3]) or 0, pending = tonumber(row[4]) or 0,
    }
  end
  return projects[key]
end

local shard = redis.call('HMGET', KEYS[3], 'backlog_events', 'backlog_bytes')
local backlog_events, backlog_bytes = tonumber(shard[1]) or 0, tonumber(shard[2]) or 0
local settled = 0

-- The entries: where each begins in ARGV, and its first batch.
local ids, begins, firsts = {}, {}, {}
local at, batch = 3, 1
while at <= #ARGV and ARGV[at] ~= 'limits' do
  local batches = tonumber(ARGV[at + 2])
  ids[#ids + 1], begins[#begins + 1], firsts[#firsts + 1] = ARGV[at], at, batch
  at, batch = at + 3 + 5 * batches, batch + batches
end
local batch_count, refunds_at = batch - 1, at + 1
local refunds = #KEYS - 4 - 2 * batch_count
assert(#ARGV == at - 1 + (refunds > 0 and 1 + 4 * refunds or 0), 'settle: the keys and arguments do not match')

local markers, was_pending = {}, {}
if batch_count > 0 then
  local marker_keys = {}
  for batch = 1, batch_count do
    marker_keys[batch] = KEYS[3 + 2 * batch]
  end
  for batch, marker in ipairs(redis.call('MGET', unpack(marker_keys))) do
    markers[marker_keys[batch]] = marker
  end
end
if #ids > 0 then
  redis.call('HDEL', KEYS[4], unpack(ids))
end

-- When the batches that are settled here were received, in milliseconds, by the number of the batch.
local received = {}

-- Counts one batch of an entry that was pending. Returns when it was admitted, or nil if it was not.
local function settle_one(marker_key, project, id, count, stored, duplicate, dead, conflict)
  local flags, name, charged, received_ms, digest = string.match(markers[marker_key] or '',
    '^p (%S+) (%S+) (%d+) (%d+) (%S+)$')
  if name and name == project.name then
    project.pending = project.pending - charged
    if duplicate + dead > 0 and project.month == month_of(received_ms * 1000) then
      project.used = math.max(0, project.used - duplicate - dead)
    end
    backlog_events = math.max(0, backlog_events - charged)
    local keep_s = string.find(flags, 'k', 1, true) and SETTLED_KEYED_S
      or string.find(flags, 'w', 1, true) and SETTLED_AWAITED_S or SETTLED_S
    markers[marker_key] = 's' .. string.sub(markers[marker_key], 2) .. ' ' .. stored .. ' ' .. duplicate .. ' ' .. dead
      .. ' ' .. conflict
    redis.call('SET', marker_key, markers[marker_key], 'EX', keep_s)
    return tonumber(received_ms)
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

for entry, id in ipairs(ids) do
  if redis.call('XACK', KEYS[1], ARGV[2], id) == 1 then
    settled = settled + 1
    was_pending[settled] = id
    local begin, was_admitted = begins[entry], false
    for batch = 0, ARGV[begin + 2] - 1 do
      local key, outcome = 3 + 2 * (firsts[entry] + batch), begin + 3 + 5 * batch
      local received_ms = settle_one(KEYS[key], project_at(KEYS[key + 1]), id, unpack(ARGV, outcome, outcome + 4))
      received[firsts[entry] + batch] = received_ms
      was_admitted = was_admitted or received_ms ~= nil
    end
    if was_admitted then
      backlog_bytes = math.max(0, backlog_bytes - ARGV[begin + 1])
    end
  end
end

for refund = 1, refunds do
  local key, at = KEYS[4 + 2 * batch_count + refund], refunds_at + 4 * (refund - 1)
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
