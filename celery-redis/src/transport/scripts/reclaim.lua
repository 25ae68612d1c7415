-- Puts deliveries of one process back: to the head of their list, or to the dead letters.
--
-- KEYS: processes, alive, held, unacked, unacked_index, dead, dead_records, dead_messages,
--       what the names of messages that are kept apart begin with
-- ARGV: process, 'dead' (only if its lease has run out) or 'leaving' (by the process itself),
--       time in seconds, most dead letters to keep, then for each delivery, the one to be served first last:
--       tag, list, message, '' or the record of a dead letter
-- Returns {number put back or -1 when the process is alive after all, dead letters dropped}.
if ARGV[2] == 'dead' then
  if redis.call('EXISTS', KEYS[2]) == 1 then
    return {-1, 0}
  end
end
-- From here on the process cannot renew, and whoever reclaims next goes on where this one stops.
redis.call('HSET', KEYS[1], ARGV[1], '')
local returned = 0
for at = 5, #ARGV, 4 do
  local tag, list, message, record = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  redis.call('HDEL', KEYS[3], tag)
  -- What kombu restores of a message that is kept apart is only its place.
  local apart = redis.call('DEL', KEYS[9] .. tag)
  if redis.call('HDEL', KEYS[4], tag) + apart > 0 then
    redis.call('ZREM', KEYS[5], tag)
    if record == '' then
      local pushed = redis.pcall('RPUSH', list, message)
      if type(pushed) == 'table' and pushed.err then
        -- The queue's key holds something else. A script is not rolled back, so nothing may fail.
        record = cjson.encode({
          reason = 'unroutable', detail = pushed.err, list = list, queue = list, deliveries = 0, time = math.floor(tonumber(ARGV[3]))
        })
      end
    end
    if record ~= '' then
      redis.call('ZADD', KEYS[6], ARGV[3], tag)
      redis.call('HSET', KEYS[7], tag, record)
      redis.call('HSET', KEYS[8], tag, message)
    end
    returned = returned + 1
  end
end
local excess = redis.call('ZCARD', KEYS[6]) - tonumber(ARGV[4])
local dropped = excess > 0 and redis.call('ZRANGE', KEYS[6], 0, excess - 1) or {}
for _, tag in ipairs(dropped) do
  redis.call('ZREM', KEYS[6], tag)
  redis.call('HDEL', KEYS[7], tag)
  redis.call('HDEL', KEYS[8], tag)
end
if redis.call('HLEN', KEYS[3]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
end
return {returned, #dropped}
