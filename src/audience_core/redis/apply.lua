-- Applies one batch of a shard's log to the shard's state: all of it, or nothing (a malformed operation, which only a
-- caller's bug could send, ends it half-way with the offset unmoved; the batch is then applied again from its start).
--
-- KEYS[1]  {sN}:o   HASH topic, offset
-- KEYS[2]  {sN}:c   HASH account:member -> count
--          Every other key has the same hash tag and is built from it: {sN}:m: v: x: i: j: y: and r (see keys.py).
-- ARGV[1]  topic id that the batch was read from
-- ARGV[2]  offset that the caller believes is stored, '' for none
-- ARGV[3]  offset to store: the one after the batch's last record
-- ARGV[4]  ordering window, ms       ARGV[5]  erasure suppression, ms      ARGV[6] grain of guards' age, ms
-- ARGV[7]  time to live of guards, s ARGV[8]  time to live of suppressions, s
-- ARGV[9…] operations in log order; all but the first belong to the account named last:
--          'A' account
--          'E' mpid received_at time n (member)*n    enters; members differ
--          'L' mpid received_at -time n (member)*n   leaves; members differ
--          'J' mpid received_at k (identity)*k       identities of the E or L that follows
--          'V' mpid received_at request_id offset
--          'I' received_at request_id offset k (identity)*k
--          Each erasure appends its receipt to the list {sN}:r, for the worker to publish.
-- Returns  {'TOPIC', stored topic}    nothing done: the log is another one
--          {'OFFSET', stored offset}  nothing done: the caller's belief is wrong ('' = nothing stored)
--          {'OK', {entered, left, unchanged, stale, suppressed, erased}, {field…}, {count…}, receipts}
--                 counts that were touched, and the number of receipts that wait
--
-- Why one script: sets, guards, counts and the offset must never be seen, saved or lost apart from one another.
-- Whether a guard or a suppression has expired is decided by received_at of the records, never by a clock: a replay
-- decides as the first run did. Redis's own expiry only frees memory.
--
-- Calls into Redis are what a change costs, so: a suppression is looked for only when the shard's newest erasure is recent
-- enough to suppress, and never for a visitor with guards (an erasure deletes them, and while it lasts none are made);
-- received_at is written, and the expiry set, only when the one kept has aged by the grain; counts are added up first and
-- written once a batch.

local call, tonumber, unpack, ARGV = redis.call, tonumber, unpack, ARGV

local stored = call('HMGET', KEYS[1], 'topic', 'offset', 'erased')
if stored[1] and stored[1] ~= ARGV[1] then
  return {'TOPIC', stored[1]}
end
if (stored[2] or '') ~= ARGV[2] then
  return {'OFFSET', stored[2] or ''}
end
-- the first write is one that a full Redis refuses: later ones may be deletions, which it would let through
call('HSET', KEYS[1], 'topic', ARGV[1])

local tag = string.sub(KEYS[1], 1, -2)
local window, suppression, grain = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local guard_ttl, suppression_ttl = ARGV[7], ARGV[8]
local entered, left, unchanged, stale, suppressed, erased = 0, 0, 0, 0, 0, 0
local newest_erasure = stored[3] and tonumber(stored[3]) or -math.huge
local account, members_of, guards_of, erased_at_of, identities_of, visitors_of, identity_erased_at_of
local deltas_of, deltas = {}, nil -- account -> member -> change of its count
local first_identity, last_identity -- arguments with the identities of the next E or L

local function enter_account(name)
  account = name
  local function prefix(kind)
    return tag .. kind .. ':' .. name .. ':'
  end
  members_of, guards_of, erased_at_of = prefix('m'), prefix('v'), prefix('x')
  identities_of, visitors_of, identity_erased_at_of = prefix('j'), prefix('i'), prefix('y')
  deltas_of[name] = deltas_of[name] or {}
  deltas = deltas_of[name]
end

local function is_suppressed(mpid, received_at)
  local erased_at = call('GET', erased_at_of .. mpid)
  return erased_at and received_at - erased_at <= suppression
end

-- Puts a member in or out, and counts it when the set really changed.
local function move(entering, members, member)
  if call(entering and 'SADD' or 'SREM', members, member) == 0 then
    unchanged = unchanged + 1
  elseif entering then
    deltas[member] = (deltas[member] or 0) + 1
    entered = entered + 1
  else
    deltas[member] = (deltas[member] or 0) - 1
    left = left + 1
  end
end

local function is_older(signed, guard)
  if signed == guard then
    return false
  end
  local time, last = tonumber(signed), tonumber(guard)
  return (time < 0 and -time or time) < (last < 0 and -last or last)
end

local function guard_with(guards, aged, received_at, ...)
  if aged then
    call('HSET', guards, 'r', received_at, ...)
    call('EXPIRE', guards, guard_ttl)
  elseif select('#', ...) > 0 then
    call('HSET', guards, ...)
  end
end

local function identify(mpid)
  local first, last = first_identity, last_identity
  first_identity = nil
  -- both directions are always written and deleted together, so nothing new in one is nothing new in the other
  if call('SADD', identities_of .. mpid, unpack(ARGV, first, last)) > 0 then
    for i = first, last do
      call('SADD', visitors_of .. ARGV[i], mpid)
    end
  end
end

local function change(op, mpid, received_at, signed, first, last)
  local guards, members, entering = guards_of .. mpid, members_of .. mpid, op == 'E'
  local known = call('HMGET', guards, 'r', unpack(ARGV, first, last))
  local kept = known[1]
  local aged = not kept
  if aged and received_at - newest_erasure <= suppression and is_suppressed(mpid, received_at) then
    suppressed = suppressed + last - first + 1
    first_identity = nil
    return
  end
  if first_identity then
    identify(mpid)
  end
  if kept and kept ~= received_at then
    local age = received_at - kept
    aged = age > grain
    if age > window + grain then
      call('DEL', guards)
      known = {}
    end
  end
  if first == last and not (known[2] and is_older(signed, known[2])) then -- the common case, without a table
    move(entering, members, ARGV[first])
    guard_with(guards, aged, received_at, ARGV[first], signed)
    return
  end
  local newer, w = {}, 0
  for i = first, last do
    local member, guard = ARGV[i], known[i - first + 2]
    if guard and is_older(signed, guard) then
      stale = stale + 1
    else
      newer[w + 1], newer[w + 2], w = member, signed, w + 2
      move(entering, members, member)
    end
  end
  guard_with(guards, aged, received_at, unpack(newer))
end

local function erase(mpid, received_at, receipt)
  local members, identities = members_of .. mpid, identities_of .. mpid
  local was_in, known_by = call('SMEMBERS', members), call('SMEMBERS', identities)
  for _, member in ipairs(was_in) do
    deltas[member] = (deltas[member] or 0) - 1
  end
  for _, identity in ipairs(known_by) do
    call('SREM', visitors_of .. identity, mpid)
  end
  if call('DEL', members, identities, guards_of .. mpid) > 0 then
    receipt.visitors = receipt.visitors + 1
  end
  receipt.memberships = receipt.memberships + #was_in
  receipt.identities = receipt.identities + #known_by
  local earlier = call('GET', erased_at_of .. mpid)
  if earlier and tonumber(earlier) > tonumber(received_at) then
    received_at = earlier
  end
  call('SET', erased_at_of .. mpid, received_at, 'EX', suppression_ttl)
  erased = erased + 1
end

local function nothing()
  return {visitors = 0, memberships = 0, identities = 0}
end

local function note_erasure(received_at)
  if tonumber(received_at) > newest_erasure then
    newest_erasure = tonumber(received_at)
    call('HSET', KEYS[1], 'erased', received_at)
  end
end

-- everything as text: a number of JSON may lose digits
local function file(receipt, kind, request_id, offset, received_at)
  call('RPUSH', tag .. 'r', cjson.encode({kind, account, request_id, offset, received_at,
    tostring(receipt.visitors), tostring(receipt.memberships), tostring(receipt.identities)}))
end

-- A change that was received before an erasure by one of its identities, but stands behind it in the log: it waited in a
-- gateway's spool, or gateways' producers overtook one another. Its visitor is erased, which suppresses the change. Only a
-- record older than the shard's newest erasure is looked up, so nothing else pays for it.
local function erase_in_flight(mpid, received_at, first, last)
  if tonumber(received_at) > newest_erasure then
    return
  end
  for i = first, last do
    local erased_at = call('GET', identity_erased_at_of .. ARGV[i])
    if erased_at and tonumber(received_at) <= tonumber(erased_at) then
      return erase(mpid, erased_at, nothing())
    end
  end
end

local function erase_identities(received_at, receipt, first, last)
  for i = first, last do
    for _, mpid in ipairs(call('SMEMBERS', visitors_of .. ARGV[i])) do
      erase(mpid, received_at, receipt)
    end
    local earlier = call('GET', identity_erased_at_of .. ARGV[i])
    if not earlier or tonumber(earlier) < tonumber(received_at) then
      call('SET', identity_erased_at_of .. ARGV[i], received_at, 'EX', suppression_ttl)
    end
  end
  note_erasure(received_at)
end

local function apply_operations()
  local i, size = 9, #ARGV
  while i <= size do
    local op = ARGV[i]
    if op == 'E' or op == 'L' then
      local last = i + 4 + ARGV[i + 4]
      change(op, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], i + 5, last)
      i = last + 1
    elseif op == 'J' then
      first_identity, last_identity = i + 4, i + 3 + ARGV[i + 3]
      erase_in_flight(ARGV[i + 1], ARGV[i + 2], first_identity, last_identity)
      i = last_identity + 1
    elseif op == 'A' then
      enter_account(ARGV[i + 1])
      i = i + 2
    elseif op == 'V' then
      local receipt = nothing()
      erase(ARGV[i + 1], ARGV[i + 2], receipt)
      note_erasure(ARGV[i + 2])
      file(receipt, op, ARGV[i + 3], ARGV[i + 4], ARGV[i + 2])
      i = i + 5
    elseif op == 'I' then
      local last, receipt = i + 4 + ARGV[i + 4], nothing()
      erase_identities(ARGV[i + 1], receipt, i + 5, last)
      file(receipt, op, ARGV[i + 2], ARGV[i + 3], ARGV[i + 1])
      i = last + 1
    else
      error('apply.lua: unknown operation at argument ' .. i, 0)
    end
  end
end

-- only a caller's bug fails here: the counts of what was done are written, the offset is not, and the failure is told
local done, failure = pcall(apply_operations)
local fields, values, n = {}, {}, 0
for name, changes in pairs(deltas_of) do
  for member, by in pairs(changes) do
    n = n + 1
    fields[n] = name .. ':' .. member
    values[n] = call('HINCRBY', KEYS[2], fields[n], by)
  end
end
if not done then
  return type(failure) == 'table' and failure or redis.error_reply(failure)
end
call('HSET', KEYS[1], 'offset', ARGV[3])
return {'OK', {entered, left, unchanged, stale, suppressed, erased}, fields, values, call('LLEN', tag .. 'r')}
