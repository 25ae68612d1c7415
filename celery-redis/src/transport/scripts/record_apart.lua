-- Makes an unacked record, written just before in the same transaction, the place where a message is
-- that was kept apart until now.
--
-- KEYS: unacked, unacked_index, held, apart
-- ARGV: tag
-- Returns 1, or 0 where the message was settled or taken back meanwhile: then there is no record.
local tag = ARGV[1]
local ours = redis.call('HEXISTS', KEYS[3], tag) == 1
if not ours or (redis.call('EXISTS', KEYS[4]) == 0 and not redis.call('ZSCORE', KEYS[2], tag)) then
  redis.call('HDEL', KEYS[1], tag)
  return 0
end
redis.call('DEL', KEYS[4])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'NX', time[1] .. '.' .. string.format('%06d', time[2]), tag)
return 1
