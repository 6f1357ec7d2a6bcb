
-- Decides on the batches of a group, one after the other, and appends those that are admitted in one entry.
-- (`#!lua`, clock.lua, limit_clock.lua and group_markers.lua precede this text: Redis refuses such a script before its
-- first command when it is full, is read-only or cannot persist.)
--
-- KEYS   1 events   the shard's stream
--        2 epoch    the shard's epoch
--        3 shard    hash: clock_ms, backlog_events, backlog_bytes
--        then for each plan
--        + project  hash: tat (microseconds), month (yyyymm), used, accepted, pending
--        then once for each group of batches, and for each batch without a group
--        + marker   its markers, or its own
--        then for each charge to a limit of a customer
--        + counter  hash: window, units, billionths; it expires when it was not charged for long
-- ARGV   1 the epoch that the caller trusts    2 events that the backlog may hold
--        3 the version of the entry, 4 its field t, 5 its field r
--        6 plans    7 markers
--        8 for each batch, as in BATCH: its plan, its marker, its place in the group (0 for a batch without one),
--          and the events in it
--        then for each plan
--        + project id                     + interval, microseconds
--        + events a month, -1 = no limit  + tolerance, microseconds
--        then for each batch without a group
--        + marker flags, k keyed, w awaited, - neither, and the digest of the body in hex, or -
--        In a call in which batches are charged to limits of customers:
--        + the field l of the entry
--        + for each charge: the number of its batch, the letter of its period, units and billionths to charge,
--          units and billionths of its limit; in the order of the batches, no counter twice for one batch
-- Answer for each batch {word, now_us, tat_us, used, extra}. extra is the id of the entry for ADMITTED, received_ms for
--        REPEATED, wait_us for RATE_LIMITED, the error of the server for FAILED, and for LIMIT_EXCEEDED the units
--        and billionths that are used of the counter of each charge of the batch, separated by spaces. When the
--        epoch is not the trusted one, the answer is {'EPOCH_CHANGED'} alone.
--
-- Lua has no rollback. Everything is decided on local tables. Then XADD, which may fail and then changes
-- nothing. Nothing after it can fail. The arithmetic is that of LimitState::charge in
-- shared/event/src/plan.rs and of charge in shared/event/src/limit/charge.rs; a property test compares them.
-- An amount has at most 15 digits before and 9 after the decimal point: as two numbers, it is exact.
local BATCH, BATCH_BYTES, PLAN_STRIDE, CHARGE_STRIDE, BILLION = '>I2I2BI4', 9, 4, 6, 1000000000
-- How long a counter is kept after its last charge, in seconds: longer than any window, also when the clock of the
-- machine was set back.
local KEPT_S = 3456000
local plans, marker_count, packed = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local batches, charges = #packed / BATCH_BYTES, #KEYS - 3 - plans - marker_count

-- What is said of each batch. The arguments of those without a group begin after the plans.
local plan_of, marker_of, place_of, count_of, own_of = {}, {}, {}, {}, {}
local arguments = 8 + plans * PLAN_STRIDE
for batch = 1, batches do
  local plan, marker, place, count = struct.unpack(BATCH, packed, (batch - 1) * BATCH_BYTES + 1)
  plan_of[batch], marker_of[batch], place_of[batch], count_of[batch] = plan, marker, place, count
  if place == 0 then
    arguments = arguments + 1
    own_of[batch] = ARGV[arguments]
  end
end
local limits_at = arguments + 1
assert(batches >= 1 and charges >= 0
  and #ARGV == arguments + (charges > 0 and 1 + charges * CHARGE_STRIDE or 0),
  'admit: the keys and arguments do not match')

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {{'EPOCH_CHANGED'}}
end

local shard = redis.call('HMGET', KEYS[3], 'clock_ms', 'backlog_events', 'backlog_bytes')
local backlog_events, backlog_bytes = tonumber(shard[2]) or 0, tonumber(shard[3]) or 0
local backlog_events_max = tonumber(ARGV[2])
local now = clock_us(shard[1])
local month = month_of(now)
local received_ms = math.floor(now / 1000)
local received_text = string.format('%.0f', received_ms)

-- What is stored at each marker, and the groups that were looked at.
local stored, groups = redis.call('MGET', unpack(KEYS, 4 + plans, 3 + plans + marker_count)), {}
-- The markers of batches without a group, and those to write.
local markers, new_markers = {}, {}
local function group_at(marker)
  local group = groups[marker] or group_of(KEYS[3 + plans + marker], stored[marker])
  groups[marker] = group
  return group
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
  local key, at = KEYS[3 + plans + marker_count + charge], limits_at + 1 + (charge - 1) * CHARGE_STRIDE
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

-- Batches whose marker is stored.
local is_stored = {}

-- The answer to a batch with a marker; nil for a new one.
local function known(batch)
  local marker, place = marker_of[batch], place_of[batch]
  if place > 0 then
    local group = group_at(marker)
    local record, state = record_of(group, place)
    if not state or state == 0 then
      return nil
    end
    is_stored[batch] = not group.records[place]
    local _, _, _, first_ms = struct.unpack(FORMAT, record)
    return 'REPEATED', first_ms
  end
  local text = stored[marker] or markers[marker]
  if text then
    is_stored[batch] = stored[marker]
    local first_ms, first_digest = string.match(text, '^%a %S+ %S+ %d+ (%d+) (%S+)')
    local digest = string.match(own_of[batch], '%S+$')
    if first_digest == '-' or digest == '-' or digest == first_digest then
      return 'REPEATED', tonumber(first_ms)
    end
    return 'CONFLICT'
  end
end

local function mark(batch, project_id, count)
  local marker, place = marker_of[batch], place_of[batch]
  if place > 0 then
    local record = struct.pack(FORMAT, 'p', project_id, count, received_ms, 0, 0, 0, 0)
    put_record(group_at(marker), place, record, 1)
  else
    local flags, digest = string.match(own_of[batch], '^(%S+) (%S+)$')
    markers[marker] = 'p ' .. flags .. ' ' .. project_id .. ' ' .. count .. ' ' .. received_text .. ' ' .. digest
    new_markers[#new_markers + 1], new_markers[#new_markers + 2] = KEYS[3 + plans + marker], markers[marker]
  end
end

local function decide(batch, project, charged_batch)
  local word, first_ms = known(batch)
  if word then
    return word, first_ms
  end
  local count, at = count_of[batch], 9 + (plan_of[batch] - 1) * PLAN_STRIDE
  local project_id, interval, quota, tolerance = unpack(ARGV, at, at + 3)
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
  mark(batch, project_id, count)
  project.tat, project.used = next_tat, project.used + count
  project.accepted, project.pending = project.accepted + count, project.pending + count
  project.charged = true
  backlog_events = backlog_events + count
  return 'ADMITTED'
end

local answers, admitted, first = {}, {}, nil
for batch = 1, batches do
  local project = project_at(KEYS[3 + plan_of[batch]])
  local word, extra = decide(batch, project, charges_of[batch])
  answers[batch] = {word, now, project.tat, project.used, extra}
  admitted[batch] = word == 'ADMITTED' and '1' or '0'
  first = first or word == 'ADMITTED' and batch
end
if not first then
  return answers
end

local entry = {'v', ARGV[3], 'a', table.concat(admitted), 't', ARGV[4], 'r', ARGV[5]}
if charges > 0 then
  entry[9], entry[10] = 'l', ARGV[limits_at]
end
local added = redis.pcall('XADD', KEYS[1], received_text .. '-*', unpack(entry))
if type(added) == 'table' and added.err then
  -- From the first admission on, what was decided depends on batches that are not in the stream. What the
  -- stream knew before stays true.
  for batch = first, batches do
    if not is_stored[batch] then
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
for _, group in pairs(groups) do
  write_group(group)
end
if #new_markers > 0 then
  redis.call('MSET', unpack(new_markers))
end
redis.call('HSET', KEYS[3], 'clock_ms', received_text, 'backlog_events', backlog_events, 'backlog_bytes',
  backlog_bytes + #ARGV[5])
return answers
