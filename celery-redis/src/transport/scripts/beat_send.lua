-- Sends the messages of slots and advances each entry's last run, in one step, and only where the
-- sender leads and the last run is the one that it decided from. So a slot is sent once, whatever
-- crashes, and however often the answer is lost and the sender tries again.
--
-- KEYS: leader, last_runs, run_counts, sent, then the list of each slot
-- ARGV: lease, then for each slot: entry, last run expected, slot, record, message; without a
-- message the slot is only passed over
-- Returns {'leading', outcomes, tails}, or {'not leading'}. An outcome is 1 where the slot was
-- sent, and 0 where somebody was here before. A tail is the SHA-1 of the message of a list that is
-- taken next, in the order of the lists' first slots.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'not leading'}
end
local outcomes, lists, seen = {}, {}, {}
for slot = 1, #KEYS - 4 do
  local at = 2 + (slot - 1) * 5
  local entry, expected, new = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if redis.call('HGET', KEYS[2], entry) ~= expected then
    outcomes[slot] = 0
  else
    redis.call('HSET', KEYS[2], entry, new)
    if ARGV[at + 4] ~= '' then
      local list = KEYS[4 + slot]
      redis.call('LPUSH', list, ARGV[at + 4])
      redis.call('HINCRBY', KEYS[3], entry, 1)
      redis.call('HSET', KEYS[4], entry, ARGV[at + 3])
      if not seen[list] then
        seen[list] = true
        lists[#lists + 1] = list
      end
    end
    outcomes[slot] = 1
  end
end
local tails = {}
for position, list in ipairs(lists) do
  tails[position] = list
  tails[position + #lists] = redis.sha1hex(redis.call('LINDEX', list, -1))
end
return {'leading', outcomes, tails}
