-- Renews a process's lease on all that it holds. A process that nobody has begun to reclaim
-- keeps its lease even when the key has expired (an outage of Redis); one that was, has lost it.
--
-- KEYS: processes, alive, held, unacked_index
-- ARGV: process, milliseconds to live
-- Returns the tags of all that it holds, false where the lease is lost.
local description = redis.call('HGET', KEYS[1], ARGV[1])
if not description or description == '' then
  return false
end
redis.call('SET', KEYS[2], description, 'PX', ARGV[2])
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
-- kombu restores what has an old score, whoever holds it.
local held = redis.call('HKEYS', KEYS[3])
for _, tag in ipairs(held) do
  redis.call('ZADD', KEYS[4], 'XX', now, tag)
end
return held
