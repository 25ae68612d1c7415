-- Sends the messages of slots and advances each entry's last run, in one step, and only where the
-- sender leads and the last run is the one that it decided from. So a slot is sent once, whatever
-- crashes, and however often the answer is lost and the sender tries again.
--
-- KEYS: leader, last_runs, run_counts, sent, then the list of each slot
-- ARGV: lease, then for each slot: entry, last run expected, slot, record, message; without a
-- message the slot is only passed over. The sender bounds the number of entries.
-- Returns {'leading', outcomes, tails}, or {'not leading'}. An outcome is 1 where the slot was
-- sent, 0 where somebody was here before, and -1 where the key of the queue holds no list: that
-- must not keep the other slots from being sent. A tail is the SHA-1 of the message of a list that
-- is taken next, in the order of the lists' first slots.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'not leading'}
end

local entries, place = {}, {}
for at = 2, #ARGV, 5 do
  if not place[ARGV[at]] then
    entries[#entries + 1] = ARGV[at]
    place[ARGV[at]] = #entries
  end
end
local last_runs = redis.call('HMGET', KEYS[2], unpack(entries))
local run_counts = redis.call('HMGET', KEYS[3], unpack(entries))

-- Decided for all slots first, an entry's later ones from its earlier ones; then written with one
-- command for each key.
local outcomes, lists, messages, seen = {}, {}, {}, {}
local runs, counts, records = {}, {}, {}
local function put(pairs, field, value)
  pairs[#pairs + 1] = field
  pairs[#pairs + 1] = value
end
for slot = 1, #KEYS - 4 do
  local at = 2 + (slot - 1) * 5
  local entry, list, message = ARGV[at], KEYS[4 + slot], ARGV[at + 4]
  local known = place[entry]
  if message ~= '' and seen[list] == nil then
    local kind = redis.call('TYPE', list).ok
    seen[list] = kind == 'list' or kind == 'none'
    if seen[list] then
      lists[#lists + 1] = list
      messages[list] = {}
    end
  end
  if last_runs[known] ~= ARGV[at + 1] then
    outcomes[slot] = 0
  elseif message ~= '' and not seen[list] then
    outcomes[slot] = -1
  else
    if message ~= '' then
      messages[list][#messages[list] + 1] = message
      run_counts[known] = string.format('%.0f', (tonumber(run_counts[known] or 0) or 0) + 1)
      put(counts, entry, run_counts[known])
      put(records, entry, ARGV[at + 3])
    end
    last_runs[known] = ARGV[at + 2]
    put(runs, entry, ARGV[at + 2])
    outcomes[slot] = 1
  end
end

-- Lua's stack bounds what one command may be given.
local function write(command, key, values)
  for first = 1, #values, 1000 do
    redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end
-- First: where this is refused, nothing is advanced.
for _, list in ipairs(lists) do
  write('LPUSH', list, messages[list])
end
write('HSET', KEYS[3], counts)
write('HSET', KEYS[4], records)
write('HSET', KEYS[2], runs)

local tails = {}
for position, list in ipairs(lists) do
  tails[position] = list
  tails[position + #lists] = redis.sha1hex(redis.call('LINDEX', list, -1) or '')
end
return {'leading', outcomes, tails}
