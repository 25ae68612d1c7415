-- Makes the entries known that the leader sends from now on, and forgets others.
--
-- KEYS: leader, last_runs, run_counts, sent, entries, switches
-- ARGV: lease, number of entries, then for each: name, definition, from when its slots count (or
-- '' to go on as it is); then the names to forget
-- Returns 1, or 0 where another beat leads.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local number = tonumber(ARGV[2])
for entry = 1, number do
  local at = 3 + (entry - 1) * 3
  redis.call('HSET', KEYS[5], ARGV[at], ARGV[at + 1])
  if ARGV[at + 2] ~= '' then
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2])
  end
end
for position = 3 + number * 3, #ARGV do
  for key = 2, 6 do
    redis.call('HDEL', KEYS[key], ARGV[position])
  end
end
return 1
