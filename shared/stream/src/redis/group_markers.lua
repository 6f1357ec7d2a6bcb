
-- The markers of batches whose ids name a group: one string for each group. It begins with how many of its
-- batches are pending. The record of place p follows at HEADER + (p - 1) * RECORD: its state ('p' for pending, 's'
-- for settled, a zero byte for a place that has no marker), project, events, received_ms, stored, duplicate, dead and
-- conflict. shared/stream/src/redis/marker.rs reads it, too.
local HEADER, RECORD, FORMAT = 4, 35, '>c1I8I4I6I4I4I4I4'
local PENDING, NO_RECORD = string.byte('p'), string.rep('\0', RECORD)
-- How long the markers of a group are remembered once all of its batches are settled, in seconds: a client that lost
-- the answer to its admission repeats it within seconds, and the longest wait for an outcome is half of it.
local GROUP_S = 60

-- The group with this key as it is stored; value is false without one.
local function group_of(key, value)
  local pending = value and struct.unpack('>I4', value) or 0
  return {key = key, value = value or '', pending = pending, may_expire = value and pending == 0, records = {}}
end

-- The record of a place, and its state.
local function record_of(group, place)
  local record = group.records[place]
  if not record then
    local from = HEADER + (place - 1) * RECORD
    record = string.sub(group.value, from + 1, from + RECORD)
  end
  return record, string.byte(record)
end

local function put_record(group, place, record, pending)
  group.records[place], group.pending = record, group.pending + pending
  group.first = math.min(group.first or place, place)
  group.last = math.max(group.last or place, place)
end

-- Writes the records that were put. It expires when no batch of it is pending.
local function write_group(group)
  if not group.first then
    return
  end
  local run = {}
  for place = group.first, group.last do
    local record = record_of(group, place)
    run[#run + 1] = #record == RECORD and record or NO_RECORD
  end
  local pending, records = struct.pack('>I4', group.pending), table.concat(run)
  if group.first == 1 then
    redis.call('SETRANGE', group.key, 0, pending .. records)
  else
    redis.call('SETRANGE', group.key, 0, pending)
    redis.call('SETRANGE', group.key, HEADER + (group.first - 1) * RECORD, records)
  end
  if group.pending == 0 then
    redis.call('EXPIRE', group.key, GROUP_S)
  elseif group.may_expire then
    redis.call('PERSIST', group.key)
  end
end
