-- Takes a dead letter out, and puts its bytes back into their list if asked to.
--
-- KEYS: dead, dead_records, dead_messages, list
-- ARGV: name, 'retry' or 'drop'
local message = redis.call('HGET', KEYS[3], ARGV[1])
if not message then
  return 0
end
if ARGV[2] == 'retry' then
  -- First, so that an error leaves the letter where it is.
  redis.call('LPUSH', KEYS[4], message)
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
