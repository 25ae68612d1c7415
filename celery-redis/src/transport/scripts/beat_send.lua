-- Sends the messages of slots and advances each entry's last run, in one step, and only where the
-- sender leads and the last run is the one that it decided from. So a slot is sent once, whatever
-- crashes, and however often the answer is lost and the sender tries again.
--
-- KEYS: leader, last_runs, run_counts, sent, then the list of each slot
-- ARGV: lease, then for each slot: entry, last run expected, slot, record, message; without a
-- message the slot is only passed over
-- Returns {'leading', outcomes, tails}, or {'not leading'}. An outcome is 1 where the slot was
-- sent, 0 where somebody was here before, and -1 where the key of the queue holds no list: that
-- must not keep the other slots from being sent. A tail is the SHA-1 of the message of a list that
-- is taken next, in the order of the lists' first slots.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'not leading'}
end
local outcomes, lists, seen = {}, {}, {}
for slot = 1, #KEYS - 4 do
  local at = 2 + (slot - 1) * 5
  local entry, expected, new = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local list, message = KEYS[4 + slot], ARGV[at + 4]
  if message ~= '' and seen[list] == nil then
    local kind = redis.call('TYPE', list).ok
    seen[list] = kind == 'list' or kind == 'none'
    if seen[list] then
      lists[#lists + 1] = list
    end
  end
  if redis.call('HGET', KEYS[2], entry) ~= expected then
    outcomes[slot] = 0
  elseif message ~= '' and not seen[list] then
    outcomes[slot] = -1
  else
    -- First: where this is refused, nothing is advanced.
    if message ~= '' then
      redis.call('LPUSH', list, message)
      redis.call('HINCRBY', KEYS[3], entry, 1)
      redis.call('HSET', KEYS[4], entry, ARGV[at + 3])
    end
    redis.call('HSET', KEYS[2], entry, new)
    outcomes[slot] = 1
  end
end
local tails = {}
for position, list in ipairs(lists) do
  tails[position] = list
  tails[position + #lists] = redis.sha1hex(redis.call('LINDEX', list, -1) or '')
end
return {'leading', outcomes, tails}
