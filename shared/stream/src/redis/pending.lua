#!lua flags=no-writes
-- Lists entries without their rows: the server sends only the lengths of the rows.
--
-- KEYS   1 events
-- ARGV   1 from (an id, or '(' and an id), 2 the most entries to list
-- Answer for each entry {id, field v, a, t, b, p, n, bytes of its rows}; a missing field is '' or 0
assert(#KEYS == 1 and #ARGV == 2, 'pending: expected 1 key and 2 arguments')

local answer = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  answer[#answer + 1] = {entry[1], fields.v or '', fields.a or '', fields.t or '', fields.b or '', fields.p or '',
    fields.n or '', #(fields.r or fields.d or '')}
end
return answer
