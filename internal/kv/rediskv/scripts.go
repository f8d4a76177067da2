package rediskv

import "github.com/mmrelay/mmrelay/pkg/queue/redisscript"

// A group has one key per record and one for its index, all with the group as
// hash tag:
//
//	{group}       index: a sorted set of the records' names, all with score 0
//	{group}name   a record: version (8 bytes), then the value; a TTL if it has one
//
// A record expires by itself; its name stays in the index until a scan or a
// later write with a TTL notices, and a group of records that all expire has an
// index that expires too. A key that is deleted leaves the index with it.

// applyScript writes a transaction.
//
//	KEYS  index, then the record of each op
//	ARGV  for each op: the version the record must have (8 bytes; zeros: none;
//	      empty: any), its name, the record (empty: delete it), TTL in milliseconds
//	      (0: none)
//	returns 1, or 0 if a version was another and nothing was written
//
// Besides, a write with a TTL looks at four random names of the index and
// removes those whose record expired: each such write adds one name at most, so
// that no more than a quarter of an index is dead in the long run. The keys of
// these records are made of KEYS[1] and the name; they are in the same slot.
var applyScript = redisscript.New(`
local index = KEYS[1]
for i = 2, #KEYS do
  local old = ARGV[4 * i - 7]
  if old ~= '' then
    local have = redis.call('GETRANGE', KEYS[i], 0, 7)
    if have == '' then have = '\0\0\0\0\0\0\0\0' end
    if have ~= old then return 0 end
  end
end
local ever, longest = false, 0 -- about the records written
for i = 2, #KEYS do
  local name, value, ttl = ARGV[4 * i - 6], ARGV[4 * i - 5], tonumber(ARGV[4 * i - 4])
  if value == '' then
    redis.call('UNLINK', KEYS[i])
    redis.call('ZREM', index, name)
  elseif ttl == 0 then
    redis.call('SET', KEYS[i], value)
    redis.call('ZADD', index, 0, name)
    ever = true
  else
    redis.call('SET', KEYS[i], value, 'PX', ttl)
    longest = math.max(longest, ttl)
  end
end
if longest > 0 then
  local before = redis.call('PTTL', index) -- -2: no index, -1: no TTL
  for i = 2, #KEYS do
    if ARGV[4 * i - 5] ~= '' and ARGV[4 * i - 4] ~= '0' then redis.call('ZADD', index, 0, ARGV[4 * i - 6]) end
  end
  if not ever and before ~= -1 then redis.call('PEXPIRE', index, math.max(before, longest + 1000)) end
  for _, name in ipairs(redis.call('ZRANDMEMBER', index, 4)) do
    if redis.call('EXISTS', index .. name) == 0 then redis.call('ZREM', index, name) end
  end
end
if ever then redis.call('PERSIST', index) end
return 1
`)

// cleanScript removes names from an index unless their records exist.
//
//	KEYS  index, then records
//	ARGV  the records' names
var cleanScript = redisscript.New(`
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[1], ARGV[i - 1]) end
end
return 1
`)

// readScript reads records.
//
//	KEYS  records
//	returns them, nil for a missing one
var readScript = redisscript.New(`return redis.call('MGET', unpack(KEYS))`)
