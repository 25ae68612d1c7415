-- Lets a delivery's task begin, or has its message wait behind those that wait already: for a
-- token of this process's rate limit, of the fleet's, or for a place among the runs that may go on
-- at the same time.
--
-- KEYS: unacked, unacked_index, held, apart, room, rooms, rate, running
-- ARGV: tag, '<length of list>:<list><message>', name of the room, 1 where this process has a token
--       else 0, microseconds between two beginnings or 0, places or 0
-- Returns 1 where it may begin, 0 where it waits, -1 where it is no longer ours.
local tag, places = ARGV[1], tonumber(ARGV[6])
local interval = tonumber(ARGV[5])

-- A place is held by a delivery that is still lent: whatever ends that, a settlement or the death
-- of its process, frees the place in the same step.
local function has_place()
  if places == 0 then return true end
  local taken = 0
  for _, holder in ipairs(redis.call('SMEMBERS', KEYS[8])) do
    if redis.call('HEXISTS', KEYS[1], holder) == 0 then
      redis.call('SREM', KEYS[8], holder)
    elseif holder ~= tag then
      taken = taken + 1
    end
  end
  return taken < places
end

local function has_token()
  if interval == 0 then return true end
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local due = tonumber(redis.call('GET', KEYS[7]) or now)
  if due > now then return false end
  -- A token may be taken a little late without slowing the next one down.
  local next_due = math.max(due, now - 20000) + interval
  redis.call('SET', KEYS[7], string.format('%.0f', next_due), 'PX', math.ceil(interval / 1000) + 1000)
  return true
end

if redis.call('HEXISTS', KEYS[1], tag) == 0 then
  return -1
end
if ARGV[4] == '1' and redis.call('LLEN', KEYS[5]) == 0 and has_place() and has_token() then
  if places > 0 then redis.call('SADD', KEYS[8], tag) end
  return 1
end
-- First, so that nothing is done where the room's key holds something else and this fails.
redis.call('LPUSH', KEYS[5], ARGV[2])
redis.call('SADD', KEYS[6], ARGV[3])
redis.call('HDEL', KEYS[1], tag)
redis.call('ZREM', KEYS[2], tag)
redis.call('HDEL', KEYS[3], tag)
redis.call('DEL', KEYS[4])
return 0
