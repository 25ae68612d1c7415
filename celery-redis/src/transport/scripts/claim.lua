-- Takes up to `limit` messages and records each as unacked under this process, in one step.
--
-- KEYS: alive, unacked, unacked_index, held, list 1 .. list n (in the order they are served)
-- ARGV: limit, what follows the number in a tag, first sequence number, bytes after which no more is taken, suffix of the
--       unacked record of list 1 .. list n
-- Returns false when the process's lease is gone, else {list number, message, ...}; the tags count
-- up from the first sequence number.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local limit, process, sequence = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local room = tonumber(ARGV[4])
local claimed, held, chunk = {}, 0, 4
-- Longer than what Redis keeps in a compact list (hash-max-listpack-value, zset-max-listpack-value),
-- in which finding a field takes longer the more there are. What has had it is kept as a table.
local WIDE, MANY = string.rep('-', 65), 16

-- Records messages of one list with one command for each key. They are joined as text: decoding
-- and encoding again would change them.
local function record(list, messages, count)
  local records, scores, lists = {}, {}, {}
  for at = 1, count do
    local tag, field = sequence .. process, at * 2 - 1
    sequence = sequence + 1
    records[field], records[field + 1] = tag, '[' .. messages[at] .. ARGV[list]
    scores[field], scores[field + 1] = now, tag
    lists[field], lists[field + 1] = tag, KEYS[list]
    claimed[held + 1], claimed[held + 2] = list - 4, messages[at]
    held = held + 2
  end
  if count >= MANY then
    redis.call('ZADD', KEYS[3], now, WIDE)
    redis.call('HSET', KEYS[4], WIDE, '')
  end
  redis.call('HSET', KEYS[2], unpack(records))
  redis.call('ZADD', KEYS[3], unpack(scores))
  redis.call('HSET', KEYS[4], unpack(lists))
  if count >= MANY then
    redis.call('ZREM', KEYS[3], WIDE)
    redis.call('HDEL', KEYS[4], WIDE)
  end
end

for list = 5, #KEYS do
  while limit > 0 and room > 0 do
    -- A key that is no list holds no message; the blocking wait on it says so.
    local asked = math.min(limit, chunk)
    local messages = redis.pcall('RPOP', KEYS[list], asked)
    if not messages or messages.err then break end
    local count, taken = #messages, 0
    while taken < count and room > 0 do
      taken = taken + 1
      room = room - #messages[taken]
    end
    -- What is too much goes back to where it was, the next one last.
    for at = count, taken + 1, -1 do
      redis.call('RPUSH', KEYS[list], messages[at])
    end
    record(list, messages, taken)
    limit = limit - taken
    if count < asked then break end
    -- Few at first, since they may be large.
    chunk = math.min(chunk * 4, 128)
  end
end
return claimed
