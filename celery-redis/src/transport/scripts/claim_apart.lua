-- Records messages that were moved out of their list just before, in the same transaction, each to
-- a list of its own. So no large message passes through a script, which would copy and hash it
-- several times.
--
-- KEYS: alive, unacked, unacked_index, held, list, where each message is now, lists that are served
--       before this one
-- ARGV: what stands for the message in its unacked record, tag of each
-- Returns the number of messages recorded; false when the process's lease is gone, or -1 when a
-- list has messages that are served before: then all are back where they were.
local count = #ARGV - 1
local function put_back(answer)
  for at = count, 1, -1 do
    redis.call('LMOVE', KEYS[5 + at], KEYS[5], 'LEFT', 'RIGHT')
  end
  return answer
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return put_back(false)
end
if #KEYS > 5 + count and redis.call('EXISTS', unpack(KEYS, 6 + count)) > 0 then
  return put_back(-1)
end
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
for at = 1, count do
  if redis.call('EXISTS', KEYS[5 + at]) == 0 then
    return at - 1
  end
  local tag = ARGV[1 + at]
  redis.call('HSET', KEYS[2], tag, ARGV[1])
  redis.call('ZADD', KEYS[3], now, tag)
  redis.call('HSET', KEYS[4], tag, KEYS[5])
end
return count
