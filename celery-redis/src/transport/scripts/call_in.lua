-- Takes the message that has waited longest for its task's limits and records it as unacked under
-- this process, if the limits allow one more run.
--
-- KEYS: alive, unacked, unacked_index, held, room, rooms, rate, running
-- ARGV: tag, name of the room, suffix of the unacked record, microseconds between two beginnings
--       or 0, places or 0
-- Returns false when the process's lease is gone, else {'none'}, {'wait', microseconds until a
-- token}, {'full'} or {'taken', list, message}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local tag, interval, places = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('LLEN', KEYS[5]) == 0 then
  redis.call('SREM', KEYS[6], ARGV[2])
  return {'none'}
end
if places > 0 then
  local taken = 0
  for _, holder in ipairs(redis.call('SMEMBERS', KEYS[8])) do
    if redis.call('HEXISTS', KEYS[2], holder) == 0 then
      redis.call('SREM', KEYS[8], holder)
    else
      taken = taken + 1
    end
  end
  if taken >= places then
    return {'full'}
  end
end
local time = redis.call('TIME')
if interval > 0 then
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local due = tonumber(redis.call('GET', KEYS[7]) or now)
  if due > now then
    return {'wait', due - now}
  end
  -- A token may be taken a little late without slowing the next one down.
  local next_due = math.max(due, now - 20000) + interval
  redis.call('SET', KEYS[7], string.format('%.0f', next_due), 'PX', math.ceil(interval / 1000) + 1000)
end
local value = redis.call('RPOP', KEYS[5])
local length, start = string.match(value, '^(%d+):()')
local list = string.sub(value, start, start + length - 1)
local message = string.sub(value, start + length)
-- Joined as text: decoding and encoding again would change the message.
redis.call('HSET', KEYS[2], tag, '[' .. message .. ARGV[3])
redis.call('ZADD', KEYS[3], time[1] .. '.' .. string.format('%06d', time[2]), tag)
redis.call('HSET', KEYS[4], tag, list)
if places > 0 then redis.call('SADD', KEYS[8], tag) end
return {'taken', list, message}
