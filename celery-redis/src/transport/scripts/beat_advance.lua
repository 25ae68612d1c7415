-- Advances each entry whose slots were put into queues just before, by commands of the same
-- transaction: what a script is given, Redis copies and hashes, and messages are most of it. Where
-- the sender does not lead, or anything is not as it was decided from, the messages are taken out
-- again, which nobody has seen, and nothing is advanced: beat_send.lua then decides slot by slot.
--
-- Given as a whole, not by its digest: a server that does not know it would keep the messages.
-- Nothing here may fail, for the same reason.
--
-- KEYS: leader, last_runs, run_counts, sent, then each list that messages were put into
-- ARGV: lease, number of entries, number of records; of each list, how many messages it got; the
-- name of each entry; the last run expected of each; how many of its slots were sent; then name and
-- last run of each, and name and record of each that was sent
-- Returns {'leading', the SHA-1 of the message of each list that is taken next}, {'not leading'} or
-- {'otherwise'}.
local KEYS, ARGV = KEYS, ARGV
local count, records, lists = tonumber(ARGV[2]), tonumber(ARGV[3]), #KEYS - 4
local names = 4 + lists
local expected, sent, runs = names + count, names + 2 * count, names + 3 * count
local written = runs + 2 * count

local function undone(why)
  for list = 1, lists do
    redis.pcall('LTRIM', KEYS[4 + list], ARGV[3 + list], -1)
  end
  return {why}
end

local leader = redis.pcall('GET', KEYS[1])
if leader ~= ARGV[1] then
  return undone(type(leader) == 'table' and 'otherwise' or 'not leading')
end
for list = 1, lists do
  -- Into anything else, nothing was put.
  if redis.pcall('TYPE', KEYS[4 + list]).ok ~= 'list' then return undone('otherwise') end
end
local last_runs = redis.pcall('HMGET', KEYS[2], unpack(ARGV, names, expected - 1))
local run_counts = redis.pcall('HMGET', KEYS[3], unpack(ARGV, names, expected - 1))
if last_runs.err or run_counts.err then return undone('otherwise') end
local counts, at = {}, 0
for entry = 0, count - 1 do
  if last_runs[entry + 1] ~= ARGV[expected + entry] then return undone('otherwise') end
  local more = tonumber(ARGV[sent + entry])
  if more > 0 then
    counts[at + 1] = ARGV[names + entry]
    counts[at + 2] = string.format('%.0f', (tonumber(run_counts[entry + 1] or 0) or 0) + more)
    at = at + 2
  end
end
if at > 0 then
  local put = redis.pcall('HSET', KEYS[4], unpack(ARGV, written, written + 2 * records - 1))
  if type(put) == 'table' then return undone('otherwise') end
  redis.pcall('HSET', KEYS[3], unpack(counts))
end
redis.pcall('HSET', KEYS[2], unpack(ARGV, runs, written - 1))

local reply = {'leading'}
for list = 1, lists do
  reply[1 + list] = redis.sha1hex(redis.pcall('LINDEX', KEYS[4 + list], -1))
end
return reply
