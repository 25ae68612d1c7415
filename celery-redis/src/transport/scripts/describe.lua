-- Changes what a process says about itself, as long as nobody has begun to reclaim it.
--
-- KEYS: processes
-- ARGV: process, description
local description = redis.call('HGET', KEYS[1], ARGV[1])
if description and description ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
