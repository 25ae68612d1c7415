-- Takes up to `limit` messages and records each as unacked under this process, in one step.
--
-- KEYS: alive, unacked, unacked_index, held, list 1 .. list n (in the order they are served)
-- ARGV: limit, tag prefix, first sequence number, suffix of the unacked record of list 1 .. list n
-- Returns false when the process's lease is gone, else {tag, list number, message, ...}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local limit, prefix, sequence = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local claimed = {}
for list = 5, #KEYS do
  if limit == 0 then break end
  -- A key that is no list holds no message; the blocking wait on it says so.
  local messages = redis.pcall('RPOP', KEYS[list], limit)
  if messages and not messages.err then
    for _, message in ipairs(messages) do
      local tag = prefix .. sequence
      sequence = sequence + 1
      -- Joined as text: decoding and encoding again would change the message.
      redis.call('HSET', KEYS[2], tag, '[' .. message .. ARGV[list - 1])
      redis.call('ZADD', KEYS[3], now, tag)
      redis.call('HSET', KEYS[4], tag, KEYS[list])
      claimed[#claimed + 1] = tag
      claimed[#claimed + 1] = list - 4
      claimed[#claimed + 1] = message
    end
    limit = limit - #messages
  end
end
return claimed
