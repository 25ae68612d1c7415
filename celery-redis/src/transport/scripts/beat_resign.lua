-- Gives up the lease of a process that may hold it, so that a waiting beat need not wait for its
-- end, and the sign of life of its node.
--
-- KEYS: leader, tick
-- ARGV: process
redis.call('DEL', KEYS[2])
if string.match(redis.call('GET', KEYS[1]) or '', '^%d+:(.+)$') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
