-- Settles deliveries: what follows from each is done, and it is acknowledged, in one step, and
-- only while its tag is still recorded. A tag is new for each claim, so whoever lost its lease
-- finds nothing to settle and cannot touch the next holder's.
--
-- A delivery whose part completes a chord stays recorded: the chord's body has to be sent first.
--
-- KEYS: unacked, unacked_index, held, dead, dead_records, dead_messages, what the names of messages
--       that are kept apart begin with
-- ARGV: number of deliveries; the tag of each ('' where nothing is lent); and for each the number of
--       its operations, and of each operation its kind and:
--         send: list, message
--         bury: record, message, most dead letters to keep
--         store: key, seconds to live or 0, record
--         stored: key, seconds to live or 0, key of the record, which whoever calls this publishes
--         announced: the same, when nobody listened a moment ago: who has come since is told here
--         start: chord, size, seconds to live or 0
--         save: chord, seconds to live or 0, record
--         extend: chord
--         part: chord, task id, place, record, seconds to live or 0, seconds of a claim, token
--         close, fail: chord, token, number of operations after this one that belong to it
-- Returns for each delivery 0 where it was no longer ours, 1 where it was settled, else for each
-- chord that its parts complete {chord, structure or false, parts}, or just {chord} where another
-- process is sending the body.
local DONE_FOR = 300
local deliveries = tonumber(ARGV[1])
local at = deliveries + 2
local tag
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function send(list, message)
  local pushed = redis.pcall('LPUSH', list, message)
  if type(pushed) == 'table' and pushed.err then
    -- The queue's key holds something else. A script is not rolled back, so nothing may fail.
    local now = redis.call('TIME')[1]
    local name = (tag == '' and now or tag) .. '.' .. at
    redis.call('ZADD', KEYS[4], now, name)
    redis.call('HSET', KEYS[5], name, cjson.encode({
      reason = 'unroutable', detail = pushed.err, list = list, queue = list, deliveries = 0, time = tonumber(now)
    }))
    redis.call('HSET', KEYS[6], name, message)
  end
end

local function bury(record, message, most)
  local now = redis.call('TIME')[1]
  local name = tag == '' and now .. '.' .. at or tag
  redis.call('ZADD', KEYS[4], now, name)
  redis.call('HSET', KEYS[5], name, record)
  redis.call('HSET', KEYS[6], name, message)
  local excess = redis.call('ZCARD', KEYS[4]) - most
  if excess <= 0 then return end
  for _, oldest in ipairs(redis.call('ZRANGE', KEYS[4], 0, excess - 1)) do
    redis.call('ZREM', KEYS[4], oldest)
    redis.call('HDEL', KEYS[5], oldest)
    redis.call('HDEL', KEYS[6], oldest)
  end
end

local function set(key, ttl, value)
  if ttl > 0 then redis.call('SETEX', key, ttl, value) else redis.call('SET', key, value) end
end

-- A SUCCESS is never overwritten (celery.backends.base, store_result). A compressed one of ours
-- names its compression by a word without a slash.
local function has_succeeded(key)
  local stored = redis.pcall('GETRANGE', key, 0, 31)
  return type(stored) == 'string' and (string.find(stored, '"status":%s*"SUCCESS"')
    or string.find(stored, '^%zcelery%-compressed%z%w+%z'))
end

-- What is large came before the script, since all that a script reads is copied and hashed.
local function keep(key, ttl, upload)
  if has_succeeded(key) then
    redis.call('DEL', upload)
    return false
  end
  redis.call('RENAME', upload, key)
  if ttl > 0 then redis.call('EXPIRE', key, ttl) else redis.call('PERSIST', key) end
  return true
end

local function announce(key)
  local named, patterns = redis.pcall('PUBSUB', 'NUMSUB', key), redis.pcall('PUBSUB', 'NUMPAT')
  if named[2] == 0 and patterns == 0 then return end
  redis.call('PUBLISH', key, redis.call('GET', key))
end

local function store(key, ttl, record)
  -- Mostly nothing is there yet.
  local new
  if ttl > 0 then
    new = redis.call('SET', key, record, 'NX', 'EX', ttl)
  else
    new = redis.call('SET', key, record, 'NX')
  end
  if not new then
    if has_succeeded(key) then return end
    set(key, ttl, record)
  end
  redis.call('PUBLISH', key, record)
end

-- The protocol of celery.backends.redis: .j parts by place, .t added parts, .s size, .d who has
-- returned, .c who sends the body.
local function part(chord, id, place, record, ttl, claim_for, token)
  local claim = redis.pcall('GET', chord .. '.c')
  if claim == 'done' then return nil end
  if redis.pcall('SISMEMBER', chord .. '.d', id .. ':' .. place) == 0 then
    redis.pcall('ZADD', chord .. '.j', place, record)
    redis.pcall('SADD', chord .. '.d', id .. ':' .. place)
  end
  if ttl > 0 then
    for _, suffix in ipairs({ '.j', '.t', '.s', '.d', '' }) do
      redis.call('EXPIRE', chord .. suffix, ttl)
    end
  end
  local size = tonumber(redis.pcall('GET', chord .. '.s') or nil)
  local added = tonumber(redis.pcall('GET', chord .. '.t') or nil) or 0
  if not size or redis.pcall('ZCARD', chord .. '.j') ~= size + added then return nil end
  if claim == token or redis.call('SET', chord .. '.c', token, 'NX', 'EX', claim_for) then
    local structure = redis.pcall('GET', chord)
    if type(structure) ~= 'string' then structure = false end
    return { chord, structure, redis.call('ZRANGE', chord .. '.j', 0, -1) }
  end
  return { chord }
end

-- Whether the claim is still ours, or nobody's while the chord waits.
local function owns(chord, token)
  local claim = redis.call('GET', chord .. '.c')
  return claim == token or (not claim and redis.call('EXISTS', chord .. '.s') == 1)
end

local function operate(kind, chords)
  if kind == 'store' then
    local key, ttl = take(), tonumber(take())
    store(key, ttl, take())
  elseif kind == 'stored' then
    local key, ttl = take(), tonumber(take())
    keep(key, ttl, take())
  elseif kind == 'announced' then
    local key, ttl = take(), tonumber(take())
    if keep(key, ttl, take()) then announce(key) end
  elseif kind == 'send' then
    send(take(), take())
  elseif kind == 'bury' then
    local record, message = take(), take()
    bury(record, message, tonumber(take()))
  elseif kind == 'start' then
    local chord, size, ttl = take(), take(), tonumber(take())
    redis.call('DEL', chord .. '.c')
    set(chord .. '.s', ttl, size)
  elseif kind == 'save' then
    local chord, ttl = take(), tonumber(take())
    set(chord, ttl, take())
  elseif kind == 'extend' then
    redis.pcall('INCR', take() .. '.t')
  elseif kind == 'part' then
    local chord, id, place, record = take(), take(), take(), take()
    local ttl, claim_for = tonumber(take()), take()
    chords[#chords + 1] = part(chord, id, place, record, ttl, claim_for, take())
  elseif kind == 'close' or kind == 'fail' then
    local chord, token, belonging = take(), take(), tonumber(take())
    if owns(chord, token) then
      if kind == 'close' then
        redis.call('DEL', chord .. '.j', chord .. '.t', chord .. '.s', chord .. '.d')
        redis.call('SET', chord .. '.c', 'done', 'EX', DONE_FOR)
      else
        -- A late copy of a part must not fail the chord again.
        redis.call('DEL', chord .. '.s')
      end
    else
      return belonging
    end
  end
  return 0
end

local function skip(kind)
  if kind == 'stored' or kind == 'announced' then redis.call('DEL', ARGV[at + 2]) end
  local arguments = {
    send = 2, bury = 3, store = 3, stored = 3, announced = 3, start = 3, save = 3, extend = 1, part = 7, close = 3, fail = 3
  }
  at = at + arguments[kind]
end

-- The tags that are lent, and whether each is still ours. Mostly all are, which one command tells;
-- where not, the records do. Lua's stack bounds how many there may be, and so does the sender.
local tags = {}
for delivery = 1, deliveries do
  tag = ARGV[delivery + 1]
  if tag ~= '' then tags[#tags + 1] = tag end
end
local all_ours = #tags == 0 or redis.call('ZREM', KEYS[2], unpack(tags)) == #tags
local settled, over = {}, {}
for delivery = 1, deliveries do
  tag = ARGV[delivery + 1]
  local ours = tag == '' or all_ours or redis.call('HEXISTS', KEYS[1], tag) == 1
  local chords, passed_over = {}, 0
  for _ = 1, tonumber(take()) do
    local kind = take()
    if not ours or passed_over > 0 then
      passed_over = math.max(passed_over - 1, 0)
      skip(kind)
    else
      passed_over = operate(kind, chords)
    end
  end
  if not ours then
    settled[delivery] = 0
  elseif #chords > 0 then
    settled[delivery] = chords
    if tag ~= '' then
      local time = redis.call('TIME')
      redis.call('ZADD', KEYS[2], time[1] .. '.' .. string.format('%06d', time[2]), tag)
    end
  else
    if tag ~= '' then
      over[#over + 1] = tag
      -- The tag of one that is kept apart says so (`.apart`).
      if string.byte(tag, -1) == 116 then redis.call('DEL', KEYS[7] .. tag) end
    end
    settled[delivery] = 1
  end
end
if #over > 0 then
  redis.call('HDEL', KEYS[1], unpack(over))
  redis.call('HDEL', KEYS[3], unpack(over))
end
return settled
