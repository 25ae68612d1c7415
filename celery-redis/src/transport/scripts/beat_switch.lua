-- Switches an entry as an operator wants it. One that is switched on counts its slots from now on:
-- what passed while it was off was not missed.
--
-- KEYS: last_runs, switches, changes
-- ARGV: entry, 'on', 'off' or '' for as its definition says, instant or '' to leave the last run
-- Returns whether the entry is known.
local last = redis.call('HGET', KEYS[1], ARGV[1])
if not last then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('INCR', KEYS[3])
return 1
