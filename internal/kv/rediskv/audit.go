package rediskv

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

// faults are what the scripts of an audit answer, by number.
var faults = map[int64]string{
	1: "record: does not decode",
	2: "record: not in its index",
	3: "record: outlives its index",
}

// recordScript looks at a record.
//
//	KEYS  index, record
//	ARGV  the record's name
//	returns 0, or the number of the rule that is broken
var recordScript = redisscript.New(`
local ttl = redis.call('PTTL', KEYS[2])
if ttl == -2 then return 0 end
local version = redis.call('GETRANGE', KEYS[2], 0, 7)
if #version ~= 8 or version == '\0\0\0\0\0\0\0\0' then return 1 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 2 end
local index = redis.call('PTTL', KEYS[1])
if index >= 0 and (ttl < 0 or ttl > index) then return 3 end
return 0
`)

// staleScript counts names of an index whose records do not exist.
//
//	KEYS  index, then records
//	ARGV  1 to remove them, then the records' names
//	returns how many there are
var staleScript = redisscript.New(`
local n = 0
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 and redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    n = n + 1
    if ARGV[1] == '1' then redis.call('ZREM', KEYS[1], ARGV[i]) end
  end
end
return n
`)

// Audit looks at every key of every master: records decode, and are in the index
// of their group, which lives as long as they do. With remove it deletes names of
// records that have expired. It can be called while the records are in use.
func (s *Store) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	r := audit.New()
	nodes, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		for cursor := uint64(0); ; {
			var keys []string
			if keys, cursor, err = s.step(ctx, n, cursor); err != nil {
				return nil, err
			}
			if err := s.auditKeys(ctx, keys, remove, r); err != nil {
				return nil, err
			}
			if cursor == 0 {
				break
			}
		}
	}
	return r, nil
}

func (s *Store) step(ctx context.Context, node redis.Cmdable, cursor uint64) ([]string, uint64, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	keys, next, err := node.Scan(ctx, cursor, escape(s.prefix)+"{*", 500).Result()
	return keys, next, explain(err)
}

// parseKey splits a key; the name of an index is empty.
func (s *Store) parseKey(k string) (group, name string, ok bool) {
	tag, name, ok := strings.Cut(strings.TrimPrefix(k, s.prefix+"{"), "}")
	if !ok {
		return "", "", false
	}
	b, err := encoding.DecodeString(tag)
	group = string(b)
	return group, name, err == nil && s.index(group)+name == k && kv.CheckScan(group, name) == nil
}

func (s *Store) auditKeys(ctx context.Context, keys []string, remove bool, r *audit.Report) error {
	var calls []redisscript.Call
	for _, k := range keys {
		group, name, ok := s.parseKey(k)
		switch {
		case !ok:
			r.Fault("row of no known kind")
		case name == "":
			r.Row("index")
			if err := s.auditIndex(ctx, group, remove, r); err != nil {
				return err
			}
		default:
			r.Row("record")
			calls = append(calls, redisscript.Call{Script: recordScript, Keys: []string{s.index(group), k}, Args: []any{name}})
		}
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	for _, cmd := range s.run.Run(ctx, calls) {
		n, err := cmd.Int64()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			r.Fault(faults[1])
		case err != nil:
			return explain(err)
		case n != 0:
			r.Fault(faults[n])
		}
	}
	return nil
}

// auditIndex looks for the records of an index, some at a time.
func (s *Store) auditIndex(ctx context.Context, group string, remove bool, r *audit.Report) error {
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	index := s.index(group)
	for from := "-"; ; {
		names, err := s.client.ZRangeByLex(ctx, index, &redis.ZRangeBy{Min: from, Max: "+", Count: 500}).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			r.Fault("index: does not decode")
			return nil
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return explain(err)
		}
		if len(names) == 0 {
			return nil
		}
		keys, args := []string{index}, []any{0}
		if remove {
			args[0] = 1
		}
		for _, n := range names {
			keys, args = append(keys, index+n), append(args, n)
		}
		n, err := s.run.Do(ctx, staleScript, keys, args...).Int64()
		if err != nil {
			return explain(err)
		}
		if n > 0 {
			r.Orphans["name of a record that expired"] += int(n)
		}
		if remove {
			r.Deleted += int(n)
		}
		from = "(" + names[len(names)-1]
	}
}
