package redisqueue

import "github.com/mmrelay/mmrelay/pkg/queue/redisscript"

// A queue has up to four keys, all with its id as hash tag:
//
//	{id}s   state: a packed string, see prelude
//	{id}e   entries waiting, as they are: a list
//	{id}0   dedup keys of even hours that did not fit into the state: a hash
//	{id}1   the same of odd hours
//
// An almost empty queue is two keys, a drained one is one. {id}s is the sharded
// pub/sub channel of wake-ups too.
//
// Which entries exist is decided by the state alone, with the clock of the
// caller; no script reads the server's. What expired goes when the queue is next
// touched, and by a daily sweep: a TTL on every list would cost more memory than
// all the dedup keys of a usual mailbox.
//
// The state is packed, and dedup keys are looked for in packed form, because
// tables are what a Lua script spends most of its time on.

// prelude is the head of every script.
const prelude = `
-- Fields of the state.
local FORMAT = 1
local MAXENTRIES, MAXBYTES, MAXAGE = 2, 3, 4 -- limits; age in seconds
local LAST, WAITING = 5, 6    -- newest number; how many of the newest are waiting
local TOTAL, BYTES = 7, 8     -- bytes of all entries ever, and of those waiting
local DROPPED = 9
local NEWEST = 10             -- when the entries of the last day with any expire
local HOUR = 11               -- the hour RECENT is of
local SPILL = 12              -- +1: that hour's dedup keys are in its hash, +2: those of the hour before
local OLDER = 13              -- for each earlier day with entries waiting: expiry, last number, TOTAL at it
local RECENT, BEFORE = 14, 15 -- dedup keys of that hour, and of the one before: length, key, number
local LAYOUT = '>I1I4I5I4I5I4I6I5I4I5I3I1I2c0I2c0' -- BEFORE is what follows
local DAY, DAYSIZE = '>I5I5I6', 16

local function load(key)
  local v = redis.call('GET', key)
  if not v then return nil end
  if string.byte(v) ~= 1 then error(redis.error_reply('MMRFORMAT')) end
  local s = {struct.unpack(LAYOUT, v)}
  s[BEFORE] = string.sub(v, s[BEFORE]) -- unpack says where it begins
  return s
end

local function pack(s)
  return struct.pack(LAYOUT, s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12],
    #s[13], s[13], #s[14], s[14]) .. s[15]
end

-- expire forgets entries of days that are over, and days of which nothing is
-- waiting. It returns how many entries are to be taken from the list's head.
local function expire(s, now)
  local waiting = s[WAITING]
  if waiting == 0 or (s[NEWEST] > now and s[OLDER] == '') then return 0 end
  if s[NEWEST] <= now then
    s[WAITING], s[BYTES], s[OLDER] = 0, 0, ''
    return waiting
  end
  local i, n = 1, #s[OLDER]
  while i < n do
    local at, last, total = struct.unpack(DAY, s[OLDER], i)
    if at > now and last > s[LAST] - s[WAITING] then break end
    if s[LAST] - last < s[WAITING] then s[WAITING], s[BYTES] = s[LAST] - last, s[TOTAL] - total end
    i = i + DAYSIZE
  end
  s[OLDER] = string.sub(s[OLDER], i)
  return waiting - s[WAITING]
end

-- heal accepts that the list is shorter than the state says, because somebody
-- deleted it: what is not in the list is gone. pending entries are counted in the
-- state but not yet in the list.
local function heal(s, list, pending)
  local len = redis.call('LLEN', list)
  if len + pending >= s[WAITING] then return end
  local bytes = 0
  for _, e in ipairs(redis.call('LRANGE', list, 0, -1)) do bytes = bytes + #e end
  s[WAITING], s[BYTES] = len + pending, bytes
end
`

// createScript makes a queue unless it exists.
//
//	KEYS  state
//	ARGV  MAXENTRIES, MAXBYTES, MAXAGE
//	returns 1 if it made it, 0 if it exists
var createScript = redisscript.New(prelude, `
local s = {1, tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 0, 0, 0, 0, 0, 0, 0, 0, '', '', ''}
return redis.call('SET', KEYS[1], pack(s), 'NX') and 1 or 0
`)

// deleteScript removes a queue and wakes its watchers.
//
//	KEYS  state, entries, even dedup keys, odd dedup keys
//	returns 1 if there was one
var deleteScript = redisscript.New(`
local n = redis.call('DEL', KEYS[1])
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
redis.call('SPUBLISH', KEYS[1], '')
return n
`)

// appendScript stores entries in one or more queues (more than one only where
// all keys are on one server) and wakes the watchers.
//
//	KEYS  per queue: state, entries
//	ARGV  now in Unix seconds, the hour (queue.DedupHour), 1 if a state is to be
//	      written even if nothing changed (WAIT waits for writes only);
//	      per queue: number of entries, then for each the entry and its dedup key
//	returns for each entry its number; the negative number of the first one if it
//	      is a duplicate; 0 if the queue is full; nil if there is no such queue
//
// The keys of the hashes, which few queues need, are made of that of the state;
// they are in the same slot.
var appendScript = redisscript.New(prelude, `
local now, hour, touch = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local midnight = (math.floor(now / 86400) + 1) * 86400
local INLINE = 16 * 22 -- most bytes of dedup keys in RECENT: 16 of 16 bytes

local function roll(s)
  if hour == s[HOUR] + 1 then
    s[BEFORE], s[SPILL] = s[RECENT], 2 * (s[SPILL] % 2)
  else
    s[BEFORE], s[SPILL] = '', 0
  end
  s[HOUR], s[RECENT] = hour, ''
end

-- find looks for a key in packed form.
local function find(packed, key)
  if not string.find(packed, key, 1, true) then return nil end
  local i, n = 1, #packed
  while i < n do -- the bytes are there; are they a key?
    local len = string.byte(packed, i)
    if len == #key and string.sub(packed, i + 1, i + len) == key then
      return (struct.unpack('>I5', packed, i + 1 + len))
    end
    i = i + len + 6
  end
end

-- hash is the key of the dedup keys of an hour.
local function hash(state, hour) return string.sub(state, 1, -2) .. (hour % 2) end

-- seen returns the number of the entry with a dedup key. If there is none and
-- next is given, the key is remembered with that number, if that saves a call.
local function seen(s, state, key, next)
  local seq
  if s[RECENT] ~= '' then seq = find(s[RECENT], key) end
  if not seq and s[BEFORE] ~= '' then seq = find(s[BEFORE], key) end
  local spill = s[SPILL]
  if spill == 0 or seq then return seq end
  if spill >= 2 then seq = redis.call('HGET', hash(state, s[HOUR] + 1), key) end
  if not seq and spill % 2 == 1 then
    local h = hash(state, s[HOUR])
    if next and redis.call('HSETNX', h, key, next) == 1 then return nil end
    seq = redis.call('HGET', h, key)
  end
  return seq and tonumber(seq)
end

-- remember keeps few keys in the state, where they cost least memory, and moves
-- them to the hash when they are many, where they cost least time.
local function remember(s, state, key, seq)
  if s[SPILL] % 2 == 1 then return end -- seen did it
  local r = s[RECENT] .. struct.pack('>I1c0I5', #key, key, seq)
  if #r <= INLINE then
    s[RECENT] = r
    return
  end
  local h = hash(state, s[HOUR])
  redis.call('UNLINK', h) -- of two hours ago
  local i, n = 1, #r
  while i < n do
    local k, q, next = struct.unpack('>I1c0I5', r, i)
    redis.call('HSET', h, k, q)
    i = next
  end
  redis.call('EXPIRE', h, 3 * 3600)
  s[RECENT], s[SPILL] = '', s[SPILL] + 1
end

local function full(s, size)
  return s[WAITING] >= s[MAXENTRIES] or s[BYTES] + size > s[MAXBYTES]
end

-- newday begins the day whose entries expire at a time, unless it has begun. A
-- clock that went back does not end a day; and thousands of days are not kept
-- apart.
local function newday(s, at)
  if s[NEWEST] >= at and s[WAITING] > 0 then return end
  if s[WAITING] > 0 and #s[OLDER] < 60000 then
    s[OLDER] = s[OLDER] .. struct.pack(DAY, s[NEWEST], s[LAST], s[TOTAL])
  end
  s[NEWEST] = at
end

local out, o, a = {}, 0, 4
for k = 1, #KEYS, 2 do
  local state, list = KEYS[k], KEYS[k + 1]
  local n = tonumber(ARGV[a])
  local s = load(state)
  if not s then
    for i = 1, n do out[o + i] = false end
  else
    local dirty, new = touch, nil
    local gone = expire(s, now)
    if gone > 0 then
      redis.call('LTRIM', list, gone, -1)
      dirty = true
    end
    if hour > s[HOUR] then roll(s) end
    for i = 1, n do
      local data, key = ARGV[a + 2 * i - 1], ARGV[a + 2 * i]
      local no = full(s, #data)
      if no then
        heal(s, list, new and #new or 0)
        no = full(s, #data)
      end
      local seq = key ~= '' and seen(s, state, key, not no and s[LAST] + 1)
      if seq then
        out[o + i] = -seq
      else
        dirty = true
        if no then
          s[DROPPED] = math.min(s[DROPPED] + 1, 4294967295)
          out[o + i] = 0
        else
          newday(s, midnight + s[MAXAGE])
          seq = s[LAST] + 1
          s[LAST], s[WAITING] = seq, s[WAITING] + 1
          s[TOTAL], s[BYTES] = s[TOTAL] + #data, s[BYTES] + #data
          if new then new[#new + 1] = data else new = {data} end
          if key ~= '' then remember(s, state, key, seq) end
          out[o + i] = seq
        end
      end
    end
    if new and redis.call('RPUSH', list, unpack(new)) ~= s[WAITING] then heal(s, list, 0) end
    if dirty then redis.call('SET', state, pack(s)) end
    if new then redis.call('SPUBLISH', state, '') end
  end
  o, a = o + n, a + 1 + 2 * n
end
return out
`)

// readScript reads entries.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds, number after which to read, most entries, most bytes,
//	      1 if the state is to be written when there are entries (WAIT waits for
//	      writes only, and what a reader saw must not be taken back by a failover)
//	returns the number of the first entry, then the entries; nil if there is no
//	      such queue
var readScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
local now, after, max, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local head = s[LAST] - redis.call('LLEN', KEYS[2]) -- number before the list's first
local avg = math.max(1, s[BYTES] / math.max(1, s[WAITING]))
expire(s, now)
after = math.max(after, s[LAST] - s[WAITING], head)
local out, size = {after + 1}, 0
max = math.min(max, s[LAST] - after)
if max > 0 and ARGV[5] == '1' then redis.call('SET', KEYS[1], redis.call('GET', KEYS[1])) end
while #out - 1 < max do
  local i = after + #out - 1 - head
  local n = math.max(1, math.min(max - #out + 1, math.floor((bytes - size) / avg)))
  local es = redis.call('LRANGE', KEYS[2], i, i + n - 1)
  if #es == 0 then break end
  for _, e in ipairs(es) do
    size = size + #e
    if #out > 1 and size > bytes then return out end
    out[#out + 1] = e
  end
end
return out
`)

// ackScript deletes entries, a bounded number of bytes at a time.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds, number up to which to delete, 1 if the state is to
//	      be written even if nothing changed (WAIT waits for writes only)
//	returns 1, or 2 if there is more to delete; nil if there is no such queue
var ackScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
heal(s, KEYS[2], 0)
local dirty, more = ARGV[3] == '1', false
local gone = expire(s, tonumber(ARGV[1]))
local n = math.min(tonumber(ARGV[2]), s[LAST]) - (s[LAST] - s[WAITING])
if n >= s[WAITING] then
  gone, n = gone + s[WAITING], 0
  s[WAITING], s[BYTES], s[OLDER] = 0, 0, ''
end
if gone > 0 then
  if s[WAITING] == 0 then
    redis.call('UNLINK', KEYS[2])
  else
    redis.call('LTRIM', KEYS[2], gone, -1)
  end
  dirty = true
end
local size = 0
while n > 0 do
  local es = redis.call('LPOP', KEYS[2], math.min(n, 32))
  if not es then break end
  for _, e in ipairs(es) do size = size + #e end
  n = n - #es
  s[WAITING], dirty = s[WAITING] - #es, true
  if size > 4194304 and n > 0 then
    more = true
    break
  end
end
s[BYTES] = s[BYTES] - size
if size > 0 then expire(s, 0) end -- forgets days of which nothing is waiting
if dirty then redis.call('SET', KEYS[1], pack(s)) end
return more and 2 or 1
`)

// statScript describes a queue.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds
//	returns LAST, WAITING, BYTES, DROPPED; nil if there is no such queue
var statScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
heal(s, KEYS[2], 0)
expire(s, tonumber(ARGV[1]))
return {s[LAST], s[WAITING], s[BYTES], s[DROPPED]}
`)
