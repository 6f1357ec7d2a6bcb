
-- Decides on the batches of a group, one after the other, and appends those that are admitted in one entry.
-- (`#!lua`, clock.lua and limit_clock.lua precede this text: Redis refuses such a script before its first command when it is
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
--        A call in which batches are charged to limits of customers has more, after all of these:
-- KEYS   + for each charge its counter, hash: window, units, billionths; it expires when it was not charged for long
-- ARGV   + the field l of the entry
--        + for each charge: the number of its batch, the letter of its period, units and billionths to charge,
--          units and billionths of its limit; in the order of the batches, no counter twice for one batch
--        + the number of batches, and the word limits
-- Answer for each batch {word, now_us, tat_us, used, extra}. extra is the id of the entry for ADMITTED, received_ms for
--        REPEATED, wait_us for RATE_LIMITED, the error of the server for FAILED, and for LIMIT_EXCEEDED the units
--        and billionths that are used of the counter of each charge of the batch, separated by spaces. When the epoch is not the trusted
--        one, the answer is {'EPOCH_CHANGED'} alone.
--
-- Lua has no rollback. Everything is decided on local tables. Then XADD, which may fail and then changes
-- nothing. Nothing after it can fail. The arithmetic is that of LimitState::charge in
-- shared/event/src/plan.rs and of charge in shared/event/src/limit/charge.rs; a property test compares them.
-- An amount has at most 15 digits before and 9 after the decimal point: as two numbers, it is exact.
local STRIDE, CHARGE_STRIDE, BILLION = 7, 6, 1000000000
-- How long a counter is kept after its last charge, in seconds: longer than any window, also when the clock of the
-- machine was set back.
local KEPT_S = 3456000
local has_limits = ARGV[#ARGV] == 'limits'
local batches = has_limits and tonumber(ARGV[#ARGV - 1]) or (#KEYS - 3) / 2
local charges = has_limits and #KEYS - 3 - 2 * batches or 0
assert(batches >= 1 and charges >= 0
  and #ARGV == 5 + batches * STRIDE + (has_limits and 3 + charges * CHARGE_STRIDE or 0),
  'admit: expected 3 keys and 2 for each batch, 5 arguments and 7 for each batch, and 6 for each charge')

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

-- The charges of each batch, and the counters by key.
local charges_of, counters = {}, {}
for charge = 1, charges do
  local key, at = KEYS[3 + 2 * batches + charge], 6 + batches * STRIDE + 1 + (charge - 1) * CHARGE_STRIDE
  local batch, period = tonumber(ARGV[at]), ARGV[at + 1]
  if not counters[key] then
    local row, window = redis.call('HMGET', key, 'window', 'units', 'billionths'), window_of(period, now)
    local is_current = tonumber(row[1]) == window
    counters[key] = {
      window = window, units = is_current and tonumber(row[2]) or 0, billionths = is_current and tonumber(row[3]) or 0,
    }
  end
  charges_of[batch] = charges_of[batch] or {}
  table.insert(charges_of[batch], {
    counter = counters[key], units = tonumber(ARGV[at + 2]), billionths = tonumber(ARGV[at + 3]),
    limit_units = tonumber(ARGV[at + 4]), limit_billionths = tonumber(ARGV[at + 5]),
  })
end

-- What is used of a counter after a charge.
local function charged(charge)
  local units = charge.counter.units + charge.units
  local billionths = charge.counter.billionths + charge.billionths
  if billionths >= BILLION then
    units, billionths = units + 1, billionths - BILLION
  end
  return units, billionths
end

-- Nil when every limit allows the batch; otherwise what is used of its counters.
local function over_limit(charged_batch)
  local is_over, used = false, {}
  for at, charge in ipairs(charged_batch) do
    local units, billionths = charged(charge)
    is_over = is_over or units > charge.limit_units
      or units == charge.limit_units and billionths > charge.limit_billionths
    used[at] = string.format('%.0f %.0f', charge.counter.units, charge.counter.billionths)
  end
  return is_over and table.concat(used, ' ') or nil
end

local function decide(project, marker_key, at, charged_batch)
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
  if charged_batch then
    local used = over_limit(charged_batch)
    if used then
      return 'LIMIT_EXCEEDED', used
    end
    for _, charge in ipairs(charged_batch) do
      charge.counter.units, charge.counter.billionths = charged(charge)
      charge.counter.charged = true
    end
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
  local word, extra = decide(project, marker_keys[batch], 6 + (batch - 1) * STRIDE, charges_of[batch])
  answers[batch] = {word, now, project.tat, project.used, extra}
  admitted[batch] = word == 'ADMITTED' and '1' or '0'
  first = first or word == 'ADMITTED' and batch
end
if not first then
  return answers
end

local entry = {'v', ARGV[3], 'a', table.concat(admitted), 't', ARGV[4], 'r', ARGV[5]}
if has_limits then
  entry[9], entry[10] = 'l', ARGV[6 + batches * STRIDE]
end
local added = redis.pcall('XADD', KEYS[1], received_ms .. '-*', unpack(entry))
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
for key, counter in pairs(counters) do
  if counter.charged then
    redis.call('HSET', key, 'window', counter.window, 'units', counter.units, 'billionths', counter.billionths)
    redis.call('EXPIRE', key, KEPT_S)
  end
end
redis.call('MSET', unpack(new_markers))
redis.call('HSET', KEYS[3], 'clock_ms', received_ms, 'backlog_events', backlog_events, 'backlog_bytes',
  backlog_bytes + #ARGV[5])
return answers
