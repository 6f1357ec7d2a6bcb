#!lua flags=no-writes
-- Lists the entries that were charged to limits, without their rows.
--
-- KEYS   1 events
-- ARGV   1 from (an id, or '(' and an id), 2 the most entries to look at
-- Answer {the last entry that was looked at, nil at the end of the stream,
--        for each charged entry {id, field a, t, l, bytes of its rows}}
assert(#KEYS == 1 and #ARGV == 2, 'pending_charges: expected 1 key and 2 arguments')

local entries, charged = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]), {}
for _, entry in ipairs(entries) do
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  if fields.l and fields.a and fields.t then
    charged[#charged + 1] = {entry[1], fields.a, fields.t, fields.l, #(fields.r or '')}
  end
end
return {#entries == tonumber(ARGV[2]) and entries[#entries][1] or false, charged}
