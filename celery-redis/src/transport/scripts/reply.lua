-- Puts a reply to a control command into the queues that are bound for it, in one step: each way to
-- Redis and back is one that a busy machine makes the asker wait for.
--
-- A binding is the routing key, a pattern and the queue (kombu.transport.redis, get_table). An asker
-- that is gone has none; a queue that is none for replies gets none, since it gets a time to live.
--
-- KEYS: the bindings of the asker's exchange
-- ARGV: separator, routing key, what a queue for replies ends with, prefix of keys, seconds to live,
--       message
local separator, routing_key, ending = ARGV[1], ARGV[2], ARGV[3]
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local first, after = string.find(member, separator, 1, true)
  if first and string.sub(member, 1, first - 1) == routing_key then
    local from, last = after + 1, after
    while last do
      from = last + 1
      _, last = string.find(member, separator, from, true)
    end
    local queue = string.sub(member, from)
    if string.sub(queue, -#ending) == ending then
      redis.call('LPUSH', ARGV[4] .. queue, ARGV[6])
      redis.call('EXPIRE', ARGV[4] .. queue, ARGV[5])
    end
  end
end
