-- Settles deliveries: each is acknowledged, its result stored and published, and its follow-up
-- messages sent, in one step, and only while its tag is still recorded. A tag is new for each
-- claim, so whoever lost its lease finds nothing to settle and cannot touch the next holder's.
--
-- KEYS: unacked, unacked_index, dead, dead_records, dead_messages
-- ARGV, for each delivery: tag, held, number of messages to send, {list, message} for each,
--       number of results (0 or 1), {key, seconds to live or 0, record} for each
-- Returns for each delivery 1 where it was settled, 0 where it was no longer ours.
local settled = {}
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end
while at <= #ARGV do
  local tag, held = take(), take()
  local ours = redis.call('HDEL', KEYS[1], tag)
  if ours == 1 then
    redis.call('ZREM', KEYS[2], tag)
    redis.call('HDEL', held, tag)
  end
  for _ = 1, tonumber(take()) do
    local list, message = take(), take()
    if ours == 1 then
      local pushed = redis.pcall('LPUSH', list, message)
      if type(pushed) == 'table' and pushed.err then
        -- The queue's key holds something else. A script is not rolled back, so nothing may fail.
        local name = tag .. '.' .. at
        local now = redis.call('TIME')[1]
        redis.call('ZADD', KEYS[3], now, name)
        redis.call('HSET', KEYS[4], name, cjson.encode({
          reason = 'unroutable', detail = pushed.err, list = list, queue = list, deliveries = 0, time = tonumber(now)
        }))
        redis.call('HSET', KEYS[5], name, message)
      end
    end
  end
  for _ = 1, tonumber(take()) do
    local key, ttl, record = take(), tonumber(take()), take()
    -- A SUCCESS is never overwritten (celery.backends.base, store_result).
    local stored = redis.pcall('GETRANGE', key, 0, 31)
    local success = type(stored) == 'string' and string.find(stored, '"status":%s*"SUCCESS"')
    if ours == 1 and not success then
      if ttl > 0 then redis.call('SETEX', key, ttl, record) else redis.call('SET', key, record) end
      redis.call('PUBLISH', key, record)
    end
  end
  settled[#settled + 1] = ours
end
return settled
