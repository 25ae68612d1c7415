-- One sign of life of a beat: takes the lease when nobody holds it, or extends its own.
--
-- Each time the lease is taken the term grows, and the lease names it: a beat that lost its lease
-- without noticing holds an old one, which beat_send refuses.
--
-- KEYS: leader, term, tick
-- ARGV: process, milliseconds the lease lives, instant, milliseconds the tick lives
-- Returns the lease as it is now: {term, process}.
local lease = redis.call('GET', KEYS[1])
local term, holder = string.match(lease or '', '^(%d+):(.+)$')
if not term then
  term, holder = tostring(redis.call('INCR', KEYS[2])), ARGV[1]
end
if holder == ARGV[1] then
  redis.call('SET', KEYS[1], term .. ':' .. holder, 'PX', ARGV[2])
end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return {term, holder}
