-- Moves a delivery to the dead letters and keeps their number bounded.
--
-- KEYS: unacked, unacked_index, held, apart, dead, dead_records, dead_messages
-- ARGV: tag, time in seconds, record, message, most dead letters to keep
-- Returns {1 if buried or 0 if no longer ours, number dropped because of the bound}.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return {0, 0}
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[7], ARGV[1], ARGV[4])
local excess = redis.call('ZCARD', KEYS[5]) - tonumber(ARGV[5])
if excess <= 0 then
  return {1, 0}
end
local oldest = redis.call('ZRANGE', KEYS[5], 0, excess - 1)
for _, tag in ipairs(oldest) do
  redis.call('ZREM', KEYS[5], tag)
  redis.call('HDEL', KEYS[6], tag)
  redis.call('HDEL', KEYS[7], tag)
end
return {1, #oldest}
