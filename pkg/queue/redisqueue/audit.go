package redisqueue

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

// faults are what auditScript answers, by number.
var faults = map[int64]string{
	1: "queue: counters disagree",
	2: "queue: list is not as long as its state says",
	3: "queue: bytes are not those of its entries",
	4: "queue: days disagree with entries",
	5: "queue: dedup keys do not decode",
}

// auditScript compares a state with its list. It reads lists of up to 4 MiB.
//
//	KEYS  state, entries
//	ARGV  now in Unix seconds
//	returns how many entries there are, how many of them expired, then the numbers
//	      of the rules that are broken; nil if there is no such queue
var auditScript = redisscript.New(prelude, `
local s = load(KEYS[1])
if not s then return false end
local len, out = redis.call('LLEN', KEYS[2]), {}
local function fault(n) out[#out + 1] = n end
if s[WAITING] > s[LAST] or s[BYTES] > s[TOTAL] or s[WAITING] > s[MAXENTRIES] or s[BYTES] > s[MAXBYTES] then fault(1) end
if len ~= s[WAITING] then fault(2) end
if s[BYTES] <= 4194304 then
  local bytes = 0
  for _, e in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do bytes = bytes + #e end
  if bytes ~= s[BYTES] then fault(3) end
end
local at, last, total = 0, 0, 0
for i = 1, #s[OLDER] - DAYSIZE + 1, DAYSIZE do
  local a, l, t = struct.unpack(DAY, s[OLDER], i)
  if a <= at or l <= last or t <= total then fault(4) break end
  at, last, total = a, l, t
end
if #s[OLDER] % DAYSIZE ~= 0 or (s[WAITING] > 0 and s[NEWEST] < at) then fault(4) end
for _, packed in ipairs({s[RECENT], s[BEFORE]}) do
  local i = 1
  while i <= #packed do i = i + string.byte(packed, i) + 6 end
  if i ~= #packed + 1 then fault(5) end
end
local gone = expire(s, tonumber(ARGV[1]))
table.insert(out, 1, gone)
table.insert(out, 1, len)
return out
`)

// strayScript looks at a key that belongs to a state.
//
//	KEYS  state, the key
//	ARGV  1 to remove it if the state is missing
//	returns 0 if there is a state or no such key, 1 if there is none; 2 if the key
//	      is a hash that would never expire
var strayScript = redisscript.New(`
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('TYPE', KEYS[2])['ok'] == 'hash' and redis.call('TTL', KEYS[2]) < 0 then return 2 end
  return 0
end
if ARGV[1] == '1' then redis.call('UNLINK', KEYS[2]) end
return 1
`)

// Audit looks at every key of every master: states decode and agree with their
// lists, and no list or hash is without a state. With remove it deletes what
// nobody can reach, expired entries included. It can be called while the queues
// are in use, and is slow on purpose.
func (s *Store) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	r := audit.New()
	for keys, err := range s.scan(ctx, escape(s.prefix)+"{*") {
		if err == nil {
			err = s.auditKeys(ctx, keys, remove, r)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (s *Store) auditKeys(ctx context.Context, keys []string, remove bool, r *audit.Report) error {
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var calls []redisscript.Call
	var kinds []byte
	for _, k := range keys {
		id, ok := s.idOf(k)
		if !ok || k != s.key(queue.ID(id), k[len(k)-1:]) {
			r.Fault("row of no known kind")
			continue
		}
		q, kind := s.keys(queue.ID(id)), k[len(k)-1]
		switch kind {
		case 's':
			r.Row("queue")
			calls = append(calls, redisscript.Call{Script: auditScript, Keys: q[:2], Args: []any{s.seconds()}})
			if remove { // an acknowledgement of nothing removes what expired
				calls = append(calls, redisscript.Call{Script: ackScript, Keys: q[:2], Args: []any{s.seconds(), 0, 0}})
				kinds = append(kinds, 's')
				kind = 'a'
			}
		case 'e', '0', '1':
			calls = append(calls, redisscript.Call{Script: strayScript, Keys: []string{q[0], k}, Args: []any{flag(remove)}})
		default:
			r.Fault("row of no known kind")
			continue
		}
		kinds = append(kinds, kind)
	}
	for i, cmd := range s.run.Run(ctx, calls) {
		if err := s.auditAnswer(kinds[i], cmd, remove, r); err != nil {
			return err
		}
	}
	return nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// auditAnswer counts what a script said about a key of some kind.
func (s *Store) auditAnswer(kind byte, cmd *redis.Cmd, remove bool, r *audit.Report) error {
	switch err := cmd.Err(); {
	case errors.Is(err, redis.Nil): // deleted meanwhile
		return nil
	case redis.HasErrorPrefix(err, "MMRFORMAT"), redis.HasErrorPrefix(err, "WRONGTYPE"), redis.HasErrorPrefix(err, "user_script"):
		if kind != 'a' { // the state was counted already
			r.Fault("queue: state does not decode")
		}
		return nil
	case err != nil:
		return explain(err)
	}
	switch kind {
	case 's':
		ns, err := cmd.Int64Slice()
		if err != nil || len(ns) < 2 {
			return ErrFormat
		}
		r.Rows["entry"] += int(ns[0])
		if ns[1] > 0 {
			r.Orphans["entry that expired"] += int(ns[1])
			if remove {
				r.Deleted += int(ns[1])
			}
		}
		for _, n := range ns[2:] {
			r.Fault(faults[n])
		}
	case 'e', '0', '1':
		n, err := cmd.Int64()
		if err != nil {
			return ErrFormat
		}
		what := map[byte]string{'e': "entries"}[kind]
		if what == "" {
			what = "dedup keys"
			r.Row(what)
		}
		switch n {
		case 1:
			r.Orphan(what + " of a deleted queue")
			r.Deleted += flag(remove)
		case 2:
			r.Fault("dedup keys: never expire")
		}
	}
	return nil
}

// scan yields the keys of all masters that match a pattern, some at a time.
func (s *Store) scan(ctx context.Context, pattern string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		nodes, err := s.masters(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, n := range nodes {
			for cursor := uint64(0); ; {
				keys, next, err := n.Scan(ctx, cursor, pattern, sweepPage).Result()
				if err != nil {
					yield(nil, explain(err))
					return
				}
				if !yield(keys, nil) {
					return
				}
				if cursor = next; cursor == 0 {
					break
				}
			}
		}
	}
}

func (s *Store) masters(ctx context.Context) (nodes []redis.Cmdable, err error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	cluster, ok := s.run.Client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{s.run.Client}, nil
	}
	var mu sync.Mutex // guards nodes
	err = cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, c)
		return nil
	})
	return nodes, explain(err)
}

// Queues yields the ids of all queues, some of them possibly twice, while others
// create and delete.
func (s *Store) Queues(ctx context.Context) iter.Seq2[queue.ID, error] {
	return func(yield func(queue.ID, error) bool) {
		for keys, err := range s.scan(ctx, s.pattern()) {
			if err != nil {
				yield("", err)
				return
			}
			for _, k := range keys {
				if id, ok := s.idOf(k); ok && !yield(queue.ID(id), nil) {
					return
				}
			}
		}
	}
}

// escape makes a pattern that matches p alone.
func escape(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(p)
}
