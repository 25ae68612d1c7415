-- Renews a process's lease on all that it holds. A process that nobody has begun to reclaim
-- keeps its lease even when the key has expired (an outage of Redis); one that was, has lost it.
--
-- It also tells what every process would else ask for by itself, as often.
--
-- KEYS: processes, alive, held, unacked_index, scheduled, waiting_rooms, reaper
-- ARGV: process, milliseconds to live
-- Returns {tags of all that it holds, milliseconds until the next message is due or -1, number of
--          waiting rooms, number of processes, 1 where one has just looked for the dead}, false
--          where the lease is lost.
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
local wait = -1
local next_due = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
if #next_due > 0 then
  wait = math.max(0, math.ceil((tonumber(next_due[2]) - tonumber(now)) * 1000))
end
return {
  held, wait, redis.call('SCARD', KEYS[6]), redis.call('HLEN', KEYS[1]), redis.call('EXISTS', KEYS[7])
}
