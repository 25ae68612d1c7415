-- Sends the message of one slot and advances the entry's last run to it, in one step, and only
-- where the sender leads and the last run is the one that it decided from. So a slot is sent once,
-- whatever crashes, and however often the answer is lost and the sender tries again.
--
-- KEYS: leader, last_runs, run_counts, list
-- ARGV: lease, entry, last run expected, slot, message
-- Returns 'sent', 'not leading', or 'advanced' where somebody was here before.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'not leading'
end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return 'advanced'
end
redis.call('LPUSH', KEYS[4], ARGV[5])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return 'sent'
