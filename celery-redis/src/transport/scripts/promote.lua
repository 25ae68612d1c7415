-- Puts messages whose instant has come to the head of their list, the earliest to be served first.
--
-- KEYS: scheduled, scheduled_messages, dead, dead_records, dead_messages, waiting_rooms
-- ARGV: limit
-- Returns {number promoted, milliseconds until the next is due or -1, the time here in seconds,
--          number of waiting rooms in which somebody may wait}.
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for at = #due, 1, -1 do
  local value = redis.call('HGET', KEYS[2], due[at])
  redis.call('ZREM', KEYS[1], due[at])
  if value then
    redis.call('HDEL', KEYS[2], due[at])
    local length, start = string.match(value, '^(%d+):()')
    local list = string.sub(value, start, start + length - 1)
    local message = string.sub(value, start + length)
    local pushed = redis.pcall('RPUSH', list, message)
    if type(pushed) == 'table' and pushed.err then
      -- The queue's key holds something else. A script is not rolled back, so nothing may fail.
      redis.call('ZADD', KEYS[3], time[1], due[at])
      redis.call('HSET', KEYS[4], due[at], cjson.encode({
        reason = 'unroutable', detail = pushed.err, list = list, queue = list, deliveries = 0, time = tonumber(time[1])
      }))
      redis.call('HSET', KEYS[5], due[at], message)
    end
  end
end
local rooms = redis.call('SCARD', KEYS[6])
local next_due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next_due == 0 then
  return {#due, -1, now, rooms}
end
return {#due, math.max(0, math.ceil((tonumber(next_due[2]) - tonumber(now)) * 1000)), now, rooms}
