-- Moves a delivery to the messages that wait for their instant.
--
-- KEYS: unacked, unacked_index, held, apart, scheduled, scheduled_messages
-- ARGV: tag, due (epoch seconds), '<length of list>:<list><message>'
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[3])
return 1
