-- Puts one delivery back into its list: to the head, or behind all others.
--
-- KEYS: unacked, unacked_index, held, apart, list
-- ARGV: tag, message, 'head' or 'tail'
-- What kombu restores of a message that is kept apart is only its place: the message is still ours.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('EXISTS', KEYS[4]) == 0 then
  return 0
end
-- First, so that nothing is done where the queue's key holds something else and this fails.
redis.call(ARGV[3] == 'head' and 'RPUSH' or 'LPUSH', KEYS[5], ARGV[2])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
return 1
