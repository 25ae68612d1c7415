-- One sign of life of a beat: takes the lease when nobody holds it, or extends its own.
--
-- Each time the lease is taken the term grows, and the lease names it: a beat that lost its lease
-- without noticing holds an old one, which beat_send refuses. Time is this server's, so that beats
-- on machines with different clocks decide from the same one.
--
-- KEYS: leader, term, tick, changes, paused
-- ARGV: process, milliseconds the lease lives, milliseconds the tick lives
-- Returns {term, holder, milliseconds the lease still lives, seconds, microseconds, changes,
-- whether an operator has paused sending}.
local lease = redis.call('GET', KEYS[1])
local term, holder = string.match(lease or '', '^(%d+):(.+)$')
if not term then
  term, holder = tostring(redis.call('INCR', KEYS[2])), ARGV[1]
end
local role = 'waiting'
if holder == ARGV[1] then
  role = 'leading'
  redis.call('SET', KEYS[1], term .. ':' .. holder, 'PX', ARGV[2])
end
local time = redis.call('TIME')
local tick = string.format('%s.%06d %s %s %s', time[1], time[2], role, term, ARGV[1])
redis.call('SET', KEYS[3], tick, 'PX', ARGV[3])
return {
  term, holder, redis.call('PTTL', KEYS[1]), time[1], time[2],
  redis.call('GET', KEYS[4]) or '0', redis.call('EXISTS', KEYS[5]),
}
