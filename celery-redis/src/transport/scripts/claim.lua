-- Takes up to `limit` messages and records each as unacked under this process, in one step.
--
-- KEYS: alive, unacked, unacked_index, held, list 1 .. list n (in the order they are served)
-- ARGV: limit, tag prefix, first sequence number, bytes after which no more is taken, suffix of the unacked record of list 1 .. list n
-- Returns false when the process's lease is gone, else {tag, list number, message, ...}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local limit, prefix, sequence = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local claimed = {}
local room = tonumber(ARGV[4])
for list = 5, #KEYS do
  while limit > 0 and room > 0 do
    -- A key that is no list holds no message; the blocking wait on it says so.
    local message = redis.pcall('RPOP', KEYS[list])
    if type(message) ~= 'string' then break end
    local tag = prefix .. sequence
    sequence = sequence + 1
    limit = limit - 1
    room = room - #message
    -- Joined as text: decoding and encoding again would change the message.
    redis.call('HSET', KEYS[2], tag, '[' .. message .. ARGV[list])
    redis.call('ZADD', KEYS[3], now, tag)
    redis.call('HSET', KEYS[4], tag, KEYS[list])
    claimed[#claimed + 1] = tag
    claimed[#claimed + 1] = list - 4
    claimed[#claimed + 1] = message
  end
end
return claimed
