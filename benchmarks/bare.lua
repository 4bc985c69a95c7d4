-- The ceiling of the worker: a set and a guard, newest wins, and nothing else. No fence, counts, expiry or erasure.
--
-- KEYS[1]  hash tag   ARGV  (mpid member signed_time)*

for i = 1, #ARGV, 3 do
  local guards, member, signed = KEYS[1] .. 'v:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local time = tonumber(signed)
  local guard = redis.call('HGET', guards, member)
  if not guard or math.abs(tonumber(guard)) <= math.abs(time) then
    redis.call('HSET', guards, member, signed)
    redis.call(time > 0 and 'SADD' or 'SREM', KEYS[1] .. 'm:' .. ARGV[i], member)
  end
end
return 'OK'
