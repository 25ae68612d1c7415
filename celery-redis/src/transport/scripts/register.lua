-- Makes a process known and alive.
--
-- KEYS: processes, alive
-- ARGV: process, milliseconds to live, description
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
return 1
