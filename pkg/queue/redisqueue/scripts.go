package redisqueue

import "github.com/mmrelay/mmrelay/pkg/queue/redisscript"

// A queue has up to four keys, all with its id as hash tag:
//
//	{id}s   state: a MessagePack array, see prelude
//	{id}e   entries waiting: a list; an element is the bytes of all entries up to
//	        and with this one (6 bytes, big endian), then the entry
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

// prelude is the head of every script.
const prelude = `
-- Fields of the state.
local FORMAT, MAXENTRIES, MAXBYTES, MAXAGE = 1, 2, 3, 4 -- limits; age in seconds
local LAST, ACKED = 5, 6     -- newest number; numbers up to here are gone
local TOTAL, GONE = 7, 8     -- bytes of entries 1 to LAST, and of 1 to ACKED
local DROPPED = 9
local DAYS = 10              -- {expiry, last number, TOTAL at it, ...} of each day that has entries waiting
local HOUR = 11              -- the hour RECENT is of
local RECENT, BEFORE = 12, 13 -- {dedup key, number, ...} of that hour, and of the one before
local SPILL, SPILLBEFORE = 14, 15 -- 1: that hour has more of them in its hash

local function load(key)
  local v = redis.call('GET', key)
  if not v then return nil end
  local s = cmsgpack.unpack(v)
  if s[FORMAT] ~= 1 then error(redis.error_reply('MMRFORMAT')) end
  return s
end

local function save(key, s) redis.call('SET', key, cmsgpack.pack(s)) end

-- expire moves ACKED past the days that are over, and forgets days of which
-- nothing is waiting.
local function expire(s, now)
  local d, n = s[DAYS], 0
  while d[n + 1] and (d[n + 1] <= now or d[n + 2] <= s[ACKED]) do
    if d[n + 2] > s[ACKED] then s[ACKED], s[GONE] = d[n + 2], d[n + 3] end
    n = n + 3
  end
  if n > 0 then
    local rest = {}
    for i = n + 1, #d do rest[#rest + 1] = d[i] end
    s[DAYS] = rest
  end
end

-- heal accepts that the list is shorter than the state says, because somebody
-- deleted it: what is not in the list is gone. pending entries are counted in the
-- state but not yet in the list.
local function heal(s, list, pending)
  local len = redis.call('LLEN', list)
  local first = s[LAST] - pending - len
  if first <= s[ACKED] then return end
  s[ACKED] = first
  if len + pending == 0 then s[GONE] = s[TOTAL] return end
  local e = redis.call('LINDEX', list, 0)
  if e then s[GONE] = struct.unpack('>I6', e) - (#e - 6) end
end
`

// createScript makes a queue unless it exists.
//
//	KEYS  state
//	ARGV  MAXENTRIES, MAXBYTES, MAXAGE
//	returns 1 if it made it, 0 if it exists
var createScript = redisscript.New(prelude, `
local s = {1, tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 0, 0, 0, 0, 0, {}, 0, {}, {}, 0, 0}
return redis.call('SET', KEYS[1], cmsgpack.pack(s), 'NX') and 1 or 0
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
//	KEYS  per queue: state, entries, even dedup keys, odd dedup keys
//	ARGV  now in Unix seconds, the hour (queue.DedupHour), 1 if a state is to be
//	      written even if nothing changed (WAIT waits for writes only);
//	      per queue: number of entries, then for each the entry and its dedup key
//	returns for each entry its number; the negative number of the first one if it
//	      is a duplicate; 0 if the queue is full; nil if there is no such queue
var appendScript = redisscript.New(prelude, `
local now, hour, touch = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local INLINE = 32 -- twice the number of dedup keys in the state

local function roll(s)
  if hour <= s[HOUR] then return end
  if hour == s[HOUR] + 1 then
    s[BEFORE], s[SPILLBEFORE] = s[RECENT], s[SPILL]
  else
    s[BEFORE], s[SPILLBEFORE] = {}, 0
  end
  s[HOUR], s[RECENT], s[SPILL] = hour, {}, 0
end

local function find(pairs, key)
  for i = 1, #pairs, 2 do
    if pairs[i] == key then return pairs[i + 1] end
  end
end

-- seen returns the number of the entry with a dedup key. hash0 is the place of
-- the queue's hash of even hours in KEYS.
local function seen(s, hash0, key)
  local seq = find(s[RECENT], key) or find(s[BEFORE], key)
  if not seq and s[SPILL] == 1 then
    seq = tonumber(redis.call('HGET', KEYS[hash0 + s[HOUR] % 2], key) or nil)
  end
  if not seq and s[SPILLBEFORE] == 1 then
    seq = tonumber(redis.call('HGET', KEYS[hash0 + (s[HOUR] + 1) % 2], key) or nil)
  end
  return seq
end

-- remember keeps few keys in the state, where they cost least memory, and moves
-- them to the hash when they are many, where they cost least time.
local function remember(s, hash0, key, seq)
  local h = KEYS[hash0 + s[HOUR] % 2]
  if s[SPILL] == 1 then
    redis.call('HSET', h, key, seq)
    return
  end
  local r = s[RECENT]
  r[#r + 1] = key
  r[#r + 1] = seq
  if #r <= INLINE then return end
  redis.call('UNLINK', h) -- of two hours ago
  redis.call('HSET', h, unpack(r))
  redis.call('EXPIRE', h, 3 * 3600)
  s[RECENT], s[SPILL] = {}, 1
end

local function full(s, size)
  return s[LAST] - s[ACKED] >= s[MAXENTRIES] or s[TOTAL] - s[GONE] + size > s[MAXBYTES]
end

-- push stores elements that the state counts already.
local function push(s, list, new)
  local len = redis.call('RPUSH', list, unpack(new))
  local at = (math.floor(now / 86400) + 1) * 86400 + s[MAXAGE]
  local d = s[DAYS]
  local n = #d
  if n > 0 and d[n - 2] >= at then -- the same day, or a clock that went back
    d[n - 1], d[n] = s[LAST], s[TOTAL]
  else
    d[n + 1], d[n + 2], d[n + 3] = at, s[LAST], s[TOTAL]
  end
  if len ~= s[LAST] - s[ACKED] then heal(s, list, 0) end
end

local out, a = {}, 4
for k = 1, #KEYS, 4 do
  local list, hash0 = KEYS[k + 1], k + 2
  local n = tonumber(ARGV[a])
  local s = load(KEYS[k])
  if not s then
    for _ = 1, n do out[#out + 1] = false end
  else
    local acked, dirty, new = s[ACKED], touch, {}
    expire(s, now)
    roll(s)
    if s[ACKED] > acked then
      redis.call('LTRIM', list, s[ACKED] - acked, -1)
      dirty = true
    end
    for i = a + 1, a + 2 * n, 2 do
      local data, key = ARGV[i], ARGV[i + 1]
      local seq = key ~= '' and seen(s, hash0, key)
      if seq then
        out[#out + 1] = -seq
      else
        dirty = true
        if full(s, #data) then heal(s, list, #new) end
        if full(s, #data) then
          s[DROPPED] = s[DROPPED] + 1
          out[#out + 1] = 0
        else
          s[LAST], s[TOTAL] = s[LAST] + 1, s[TOTAL] + #data
          new[#new + 1] = struct.pack('>I6', s[TOTAL]) .. data
          if key ~= '' then remember(s, hash0, key, s[LAST]) end
          out[#out + 1] = s[LAST]
        end
      end
    end
    if #new > 0 then push(s, list, new) end
    if dirty then save(KEYS[k], s) end
    if #new > 0 then redis.call('SPUBLISH', KEYS[k], '') end
  end
  a = a + 1 + 2 * n
end
return out
`)

// readScript reads entries.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds, number after which to read, most entries, most bytes
//	returns the number of the first entry, then the elements of the list; nil if
//	      there is no such queue
var readScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
local now, after, max, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local before = s[LAST] - redis.call('LLEN', KEYS[2]) -- number before the list's first
local avg = math.max(1, (s[TOTAL] - s[GONE]) / math.max(1, s[LAST] - s[ACKED]))
expire(s, now)
after = math.max(after, s[ACKED], before)
local out, size = {after + 1}, 0
max = math.min(max, s[LAST] - after)
while #out - 1 < max do
  local i = after + #out - 1 - before
  local n = math.max(1, math.min(max - #out + 1, math.floor((bytes - size) / avg)))
  local es = redis.call('LRANGE', KEYS[2], i, i + n - 1)
  if #es == 0 then break end
  for _, e in ipairs(es) do
    size = size + #e - 6
    if #out > 1 and size > bytes then return out end
    out[#out + 1] = e
  end
end
return out
`)

// ackScript deletes entries.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds, number up to which to delete, 1 if the state is to
//	      be written even if nothing changed (WAIT waits for writes only)
//	returns 1; nil if there is no such queue
var ackScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
heal(s, KEYS[2], 0)
local acked, dirty = s[ACKED], ARGV[3] == '1'
expire(s, tonumber(ARGV[1]))
local upto = math.min(tonumber(ARGV[2]), s[LAST])
if upto > s[ACKED] then
  if upto == s[LAST] then
    s[GONE] = s[TOTAL]
  else
    s[GONE] = struct.unpack('>I6', redis.call('LINDEX', KEYS[2], upto - acked - 1))
  end
  s[ACKED] = upto
  expire(s, 0) -- forgets days
end
if s[ACKED] > acked then
  if s[ACKED] == s[LAST] then
    redis.call('UNLINK', KEYS[2])
  else
    redis.call('LTRIM', KEYS[2], s[ACKED] - acked, -1)
  end
  dirty = true
end
if dirty then save(KEYS[1], s) end
return 1
`)

// statScript describes a queue.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds
//	returns LAST, ACKED, bytes waiting, DROPPED; nil if there is no such queue
var statScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
heal(s, KEYS[2], 0)
expire(s, tonumber(ARGV[1]))
return {s[LAST], s[ACKED], s[TOTAL] - s[GONE], s[DROPPED]}
`)
