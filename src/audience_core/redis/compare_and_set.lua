-- Sets a field of a hash when it still holds what the caller read.
--
-- KEYS[1]  the hash
-- ARGV[1]  field   ARGV[2]  value that the caller read, '' for none   ARGV[3]  value to write
-- Returns  1 written, 0 somebody else was first
--
-- Why a script: between the caller's read and its write, another process may have written.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
