
-- Names the commands of admit.lua that the user may not run, and changes nothing. (`#!lua` precedes this text:
-- Redis refuses such a script before its first command when it is full, is read-only or cannot persist.)
--
-- KEYS   1 events  2 epoch  3 shard  4 a project  5 a marker, as in admit.lua
-- ARGV   1 the replicas that WAIT waits for after an admission, 0 for none
-- Answer a list of commands, each with its key
assert(#KEYS == 5 and #ARGV == 1, 'writable: expected 5 keys and 1 argument')

local commands = {
  {'TIME'}, {'GET', KEYS[2]}, {'HMGET', KEYS[3], 'clock_ms'}, {'HSET', KEYS[3], 'clock_ms', 0},
  {'XADD', KEYS[1], '*', 'v', 0}, {'HMGET', KEYS[4], 'tat'}, {'HSET', KEYS[4], 'tat', 0}, {'MGET', KEYS[5]},
  {'MSET', KEYS[5], 0}, {'SETRANGE', KEYS[5], 0, 0}, {'PERSIST', KEYS[5]},
}
if ARGV[1] ~= '0' then
  commands[#commands + 1] = {'WAIT', ARGV[1], 1}
end
local denied = {}
for _, command in ipairs(commands) do
  if not redis.acl_check_cmd(unpack(command)) then
    denied[#denied + 1] = command[2] and command[1] ~= 'WAIT' and command[1] .. ' ' .. command[2] or command[1]
  end
end
return denied
