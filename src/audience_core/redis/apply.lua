-- Applies one batch of a shard's log to the shard's state: all of it, or nothing (a malformed operation, which only a
-- caller's bug could send, ends it half-way with the offset unmoved; the batch is then applied again from its start).
--
-- KEYS[1]  {sN}:o   HASH topic, offset
-- KEYS[2]  {sN}:c   HASH account:member -> count
--          Every other key has the same hash tag and is built from it: {sN}:m: v: x: i: j: y: and r (see keys.py).
-- ARGV[1]  topic id that the batch was read from
-- ARGV[2]  offset that the caller believes is stored, '' for none
-- ARGV[3]  offset to store: the one after the batch's last record
-- ARGV[4]  ordering window, ms       ARGV[5]  erasure suppression, ms
-- ARGV[6]  time to live of guards, s ARGV[7]  time to live of suppressions, s
-- ARGV[8…] operations in log order:
--          'M' account mpid received_at n (member signed_time)*n k (identity)*k
--          'V' account mpid received_at request_id offset
--          'I' account received_at request_id offset k (identity)*k
--          Each erasure appends its receipt to the list {sN}:r, for the worker to publish.
-- Returns  {'TOPIC', stored topic}    nothing done: the log is another one
--          {'OFFSET', stored offset}  nothing done: the caller's belief is wrong ('' = nothing stored)
--          {'OK', {entered, left, unchanged, stale, suppressed, erased}, {field…}, {count…}, receipts}
--                 counts that were touched, and the number of receipts that wait
--
-- Why one script: sets, guards, counts and the offset must never be seen, saved or lost apart from one another.
-- Whether a guard or a suppression has expired is decided by received_at of the records, never by a clock: a replay
-- decides as the first run did. Redis's own expiry only frees memory.

local stored = redis.call('HMGET', KEYS[1], 'topic', 'offset', 'erased')
if stored[1] and stored[1] ~= ARGV[1] then
  return {'TOPIC', stored[1]}
end
if (stored[2] or '') ~= ARGV[2] then
  return {'OFFSET', stored[2] or ''}
end

local tag = string.sub(KEYS[1], 1, -2)
local counts_key = KEYS[2]
local window, suppression = tonumber(ARGV[4]), tonumber(ARGV[5])
local guard_ttl, suppression_ttl = ARGV[6], ARGV[7]
local entered, left, unchanged, stale, suppressed, erased = 0, 0, 0, 0, 0, 0
local newest_erasure = stored[3] and tonumber(stored[3]) or -math.huge
local touched = {}

local function count(account, member, by)
  local field = account .. ':' .. member
  redis.call('HINCRBY', counts_key, field, by)
  touched[field] = true
end

local function is_suppressed(visitor, received_at)
  local key = tag .. 'x:' .. visitor
  local erased_at = redis.call('GET', key)
  if not erased_at then
    return false
  end
  if tonumber(received_at) - tonumber(erased_at) <= suppression then
    return true
  end
  redis.call('DEL', key)
  return false
end

local function change(account, mpid, received_at, first, n)
  local visitor = account .. ':' .. mpid
  local guards, members = tag .. 'v:' .. visitor, tag .. 'm:' .. visitor
  local last = redis.call('HGET', guards, 'r')
  if last and tonumber(received_at) - tonumber(last) > window then
    redis.call('DEL', guards)
  end
  if not last or tonumber(received_at) > tonumber(last) then
    last = received_at
  end
  redis.call('HSET', guards, 'r', last)
  for i = first, first + 2 * n - 1, 2 do
    local member, signed = ARGV[i], ARGV[i + 1]
    local time = tonumber(signed)
    local guard = redis.call('HGET', guards, member)
    if guard and math.abs(tonumber(guard)) > math.abs(time) then
      stale = stale + 1
    else
      redis.call('HSET', guards, member, signed)
      if time > 0 then
        if redis.call('SADD', members, member) == 1 then
          count(account, member, 1)
          entered = entered + 1
        else
          unchanged = unchanged + 1
        end
      elseif redis.call('SREM', members, member) == 1 then
        count(account, member, -1)
        left = left + 1
      else
        unchanged = unchanged + 1
      end
    end
  end
  redis.call('EXPIRE', guards, guard_ttl)
end

-- A change that was received before an erasure by one of its identities, but stands behind it in the log: it waited in a
-- gateway's spool, or gateways' producers overtook one another. Only a record older than the shard's newest erasure by
-- identity is looked up, so nothing else pays for it.
local function erased_in_flight(account, received_at, first, k)
  if k == 0 or tonumber(received_at) > newest_erasure then
    return false
  end
  for i = first, first + k - 1 do
    local erased_at = redis.call('GET', tag .. 'y:' .. account .. ':' .. ARGV[i])
    if erased_at and tonumber(received_at) <= tonumber(erased_at) then
      return erased_at
    end
  end
  return false
end

local function identify(account, mpid, first, k)
  for i = first, first + k - 1 do
    redis.call('SADD', tag .. 'i:' .. account .. ':' .. ARGV[i], mpid)
    redis.call('SADD', tag .. 'j:' .. account .. ':' .. mpid, ARGV[i])
  end
end

local function erase(account, mpid, received_at, receipt)
  local visitor = account .. ':' .. mpid
  local members, identities = tag .. 'm:' .. visitor, tag .. 'j:' .. visitor
  local was_in, known_by = redis.call('SMEMBERS', members), redis.call('SMEMBERS', identities)
  for _, member in ipairs(was_in) do
    count(account, member, -1)
  end
  for _, identity in ipairs(known_by) do
    redis.call('SREM', tag .. 'i:' .. account .. ':' .. identity, mpid)
  end
  if redis.call('DEL', members, identities, tag .. 'v:' .. visitor) > 0 then
    receipt.visitors = receipt.visitors + 1
  end
  receipt.memberships = receipt.memberships + #was_in
  receipt.identities = receipt.identities + #known_by
  local key = tag .. 'x:' .. visitor
  local earlier = redis.call('GET', key)
  if earlier and tonumber(earlier) > tonumber(received_at) then
    received_at = earlier
  end
  redis.call('SET', key, received_at, 'EX', suppression_ttl)
  erased = erased + 1
end

local function nothing()
  return {visitors = 0, memberships = 0, identities = 0}
end

-- everything as text: a number of JSON may lose digits
local function file(receipt, kind, account, request_id, offset, received_at)
  redis.call('RPUSH', tag .. 'r', cjson.encode({kind, account, request_id, offset, received_at,
    tostring(receipt.visitors), tostring(receipt.memberships), tostring(receipt.identities)}))
end

local function erase_identities(account, received_at, receipt, first, k)
  for i = first, first + k - 1 do
    for _, mpid in ipairs(redis.call('SMEMBERS', tag .. 'i:' .. account .. ':' .. ARGV[i])) do
      erase(account, mpid, received_at, receipt)
    end
    local key = tag .. 'y:' .. account .. ':' .. ARGV[i]
    local earlier = redis.call('GET', key)
    if not earlier or tonumber(earlier) < tonumber(received_at) then
      redis.call('SET', key, received_at, 'EX', suppression_ttl)
    end
  end
  if k > 0 and tonumber(received_at) > newest_erasure then
    newest_erasure = tonumber(received_at)
    redis.call('HSET', KEYS[1], 'erased', received_at)
  end
end

local i = 8
while i <= #ARGV do
  local op, account = ARGV[i], ARGV[i + 1]
  if op == 'M' then
    local mpid, received_at, n = ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
    local first = i + 5
    local k = tonumber(ARGV[first + 2 * n])
    local in_flight = erased_in_flight(account, received_at, first + 2 * n + 1, k)
    if in_flight then
      erase(account, mpid, in_flight, nothing())
      suppressed = suppressed + n
    elseif is_suppressed(account .. ':' .. mpid, received_at) then
      suppressed = suppressed + n
    else
      change(account, mpid, received_at, first, n)
      identify(account, mpid, first + 2 * n + 1, k)
    end
    i = first + 2 * n + 1 + k
  elseif op == 'V' then
    local receipt = nothing()
    erase(account, ARGV[i + 2], ARGV[i + 3], receipt)
    file(receipt, op, account, ARGV[i + 4], ARGV[i + 5], ARGV[i + 3])
    i = i + 6
  elseif op == 'I' then
    local received_at, k, receipt = ARGV[i + 2], tonumber(ARGV[i + 5]), nothing()
    erase_identities(account, received_at, receipt, i + 6, k)
    file(receipt, op, account, ARGV[i + 3], ARGV[i + 4], received_at)
    i = i + 6 + k
  else
    -- only a caller's bug gets here: fail loudly, since the offset is not stored and the batch will be tried again
    return redis.error_reply('apply.lua: unknown operation at argument ' .. i)
  end
end

redis.call('HSET', KEYS[1], 'topic', ARGV[1], 'offset', ARGV[3])
local fields, values = {}, {}
for field in pairs(touched) do
  fields[#fields + 1] = field
end
for n = 1, #fields do
  values[n] = redis.call('HGET', counts_key, fields[n])
end
return {'OK', {entered, left, unchanged, stale, suppressed, erased}, fields, values, redis.call('LLEN', tag .. 'r')}
