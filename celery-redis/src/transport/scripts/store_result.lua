-- Stores and publishes a task's state unless a SUCCESS is already there. A compressed one of ours
-- names its compression by a word without a slash.
--
-- KEYS: record, which is also the channel
-- ARGV: seconds to live or 0, record
local stored = redis.call('GETRANGE', KEYS[1], 0, 31)
if string.find(stored, '"status":%s*"SUCCESS"') or string.find(stored, '^%zcelery%-compressed%z%w+%z') then
  return 0
end
local ttl = tonumber(ARGV[1])
if ttl > 0 then redis.call('SETEX', KEYS[1], ttl, ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
