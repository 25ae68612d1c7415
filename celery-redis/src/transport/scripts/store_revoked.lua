-- Stores and publishes REVOKED for a task that no worker has told of.
--
-- KEYS: record, which is also the channel
-- ARGV: seconds to live or 0, record
local stored = redis.call('GET', KEYS[1])
if stored then
  local read, meta = pcall(cjson.decode, stored)
  local status = read and type(meta) == 'table' and meta.status
  if status ~= 'PENDING' and status ~= 'RECEIVED' and status ~= 'RETRY' and status ~= 'REJECTED' then
    return 0
  end
end
local ttl = tonumber(ARGV[1])
if ttl > 0 then redis.call('SETEX', KEYS[1], ttl, ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
