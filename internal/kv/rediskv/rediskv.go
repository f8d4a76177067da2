// Package rediskv is the kv.Store on Redis 7 or later, Valkey 7.2 or later,
// Sentinel or Redis Cluster: any number of processes share the records.
//
// A transaction is one Lua script (scripts.go) that runs at most once: when its
// answer is lost the call fails, and ErrConflict never hides a write of one's
// own. It is as durable as the server's appendfsync and the option WaitReplicas
// say. The server must not evict keys (maxmemory-policy noeviction).
//
// Versions are random numbers, so that a record which was deleted and made
// again has no version it had before. Expiry is by the server's clock.
package rediskv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

// errFormat reports a record that this package did not write.
var errFormat = errors.New("rediskv: a record is too short: it was not written by this program")

// versionSize is the length of what precedes a value.
const versionSize = 8

// Options are what New needs to know besides the server. The zero value is
// usable.
type Options struct {
	// WaitReplicas is how many replicas must confirm a write before its call
	// returns; fewer in time make the call fail. 0 means none. Reads wait too: what
	// they returned is confirmed.
	WaitReplicas int
	// WaitTimeout bounds that. 0 means one second.
	WaitTimeout time.Duration
}

// Store implements kv.Store.
type Store struct {
	run    redisscript.Runner
	client redis.UniversalClient
	prefix string

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
}

var _ kv.Auditor = (*Store)(nil)

// New returns a store of the keys that begin with prefix, which must not
// contain '{'. It does not close client; Close must be called before that is
// closed.
func New(client redis.UniversalClient, prefix string, o Options) *Store {
	return &Store{
		run:    redisscript.Runner{Client: client, WaitReplicas: o.WaitReplicas, WaitTimeout: o.WaitTimeout},
		client: client,
		prefix: prefix,
	}
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.closed = true
	return nil
}

// begin keeps Close waiting until the call ends.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, kv.ErrClosed
	}
	return s.life.RUnlock, nil
}

// encoding of groups in keys: no byte of a group can end the hash tag. Names
// come after the tag as they are.
var encoding = base64.RawURLEncoding

func (s *Store) index(group string) string {
	return s.prefix + "{" + encoding.EncodeToString([]byte(group)) + "}"
}

// explain says where an error comes from.
func explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("rediskv: %w", err)
}

// record parses what a key holds.
func record(k kv.Key, stored string) (kv.Record, error) {
	if len(stored) < versionSize {
		return kv.Record{}, errFormat
	}
	return kv.Record{Key: k, Version: kv.Version(binary.BigEndian.Uint64([]byte(stored[:versionSize]))), Value: []byte(stored[versionSize:])}, nil
}

// Get implements kv.Store.
func (s *Store) Get(ctx context.Context, key kv.Key) (kv.Record, error) {
	if err := key.Check(); err != nil {
		return kv.Record{}, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return kv.Record{}, err
	}
	defer end()
	rs, err := s.getMany(ctx, key.Group, []string{key.Name})
	if err == nil && rs[0].Version == 0 {
		return kv.Record{}, kv.ErrNotFound
	}
	if err != nil {
		return kv.Record{}, err
	}
	return rs[0], nil
}

// GetMany implements kv.Store: one MGET, which is atomic.
func (s *Store) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	for _, n := range names {
		if err := (kv.Key{Group: group, Name: n}).Check(); err != nil {
			return nil, err
		}
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return s.getMany(ctx, group, names)
}

func (s *Store) getMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	if len(names) == 0 {
		return nil, nil
	}
	index := s.index(group)
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = index + n
	}
	vs, err := s.mget(ctx, keys)
	if err != nil {
		return nil, explain(err)
	}
	rs := make([]kv.Record, len(names))
	for i, v := range vs {
		k := kv.Key{Group: group, Name: names[i]}
		stored, ok := v.(string)
		if !ok {
			rs[i].Key = k
			continue
		}
		if rs[i], err = record(k, stored); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// mget reads keys. Where writes wait for replicas it does too, so that no failover
// takes back what a reader saw: a server counts the writes that it made before the
// script, whoever asked for them.
func (s *Store) mget(ctx context.Context, keys []string) ([]any, error) {
	if s.run.WaitReplicas > 0 {
		return s.run.Do(ctx, readScript, keys).Slice()
	}
	return s.client.MGet(ctx, keys...).Result()
}

// Apply implements kv.Store.
func (s *Store) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	if err := kv.CheckOps(ops); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if len(ops) == 0 {
		return nil, nil
	}
	index := s.index(ops[0].Key.Group)
	keys := append(make([]string, 0, 1+len(ops)), index)
	args := make([]any, 0, 4*len(ops))
	vs := make([]kv.Version, len(ops))
	for i, op := range ops {
		keys = append(keys, index+op.Key.Name)
		var old, stored []byte
		if op.Check {
			old = binary.BigEndian.AppendUint64(nil, uint64(op.Old))
		}
		if op.Value != nil {
			vs[i] = newVersion()
			stored = binary.BigEndian.AppendUint64(make([]byte, 0, versionSize+len(op.Value)), uint64(vs[i]))
			stored = append(stored, op.Value...)
		}
		// Not shorter than asked for, and not zero, which would mean for ever.
		ttl := (op.TTL + time.Millisecond - 1) / time.Millisecond
		args = append(args, old, op.Key.Name, stored, int64(ttl))
	}
	applied, err := s.run.Do(ctx, applyScript, keys, args...).Int64()
	if err != nil {
		return nil, explain(err)
	}
	if applied == 0 {
		return nil, kv.ErrConflict
	}
	return vs, nil
}

// newVersion is a random number that is not 0.
func newVersion() kv.Version {
	for {
		var b [versionSize]byte
		_, _ = rand.Read(b[:]) // never fails
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return kv.Version(v)
		}
	}
}

// scanPage is how many records a scan reads at once.
const scanPage = 64

// Scan implements kv.Store, in pages. A page is read at one moment.
func (s *Store) Scan(ctx context.Context, group, prefix string) iter.Seq2[kv.Record, error] {
	return func(yield func(kv.Record, error) bool) {
		if err := kv.CheckScan(group, prefix); err != nil {
			yield(kv.Record{}, err)
			return
		}
		from := "[" + prefix
		for {
			rs, last, err := s.page(ctx, group, from, prefix)
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(kv.Record{}, err)
				return
			}
			if last == "" {
				return
			}
			from = "(" + last
		}
	}
}

// page reads the records of the next names of the index that begin with prefix.
// last is where the next page begins, empty if there is none.
func (s *Store) page(ctx context.Context, group, from, prefix string) (rs []kv.Record, last string, err error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, "", err
	}
	defer end()
	names, err := s.client.ZRangeByLex(ctx, s.index(group), &redis.ZRangeBy{Min: from, Max: upper(prefix), Count: scanPage}).Result()
	if err != nil {
		return nil, "", explain(err)
	}
	all, err := s.getMany(ctx, group, names)
	if err != nil {
		return nil, "", err
	}
	var dead []string
	for _, r := range all {
		if r.Version == 0 {
			dead = append(dead, r.Key.Name)
			continue
		}
		rs = append(rs, r)
	}
	if len(dead) > 0 {
		s.clean(ctx, group, dead)
	}
	if len(names) == scanPage {
		last = names[scanPage-1]
	}
	return rs, last, nil
}

// upper is the end of the range of names that begin with prefix, as
// ZRANGEBYLEX takes it.
func upper(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return "(" + string(b[:i+1])
		}
	}
	return "+"
}

// clean removes names of expired records from an index. What does not work is
// done by the next scan.
func (s *Store) clean(ctx context.Context, group string, names []string) {
	index := s.index(group)
	keys := []string{index}
	args := make([]any, len(names))
	for i, n := range names {
		keys = append(keys, index+n)
		args[i] = n
	}
	_ = s.run.Do(ctx, cleanScript, keys, args...).Err()
}

// Groups implements kv.Store: it walks over the keys of every master.
func (s *Store) Groups(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		nodes, err := s.masters(ctx)
		if err != nil {
			yield("", err)
			return
		}
		for _, n := range nodes {
			if !s.groupsOf(ctx, n, prefix, yield) {
				return
			}
		}
	}
}

func (s *Store) masters(ctx context.Context) ([]redis.Cmdable, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex // guards nodes
	var nodes []redis.Cmdable
	err = cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, c)
		return nil
	})
	return nodes, explain(err)
}

// groupsOf yields the groups of one master. It reports whether to go on.
func (s *Store) groupsOf(ctx context.Context, node redis.Cmdable, prefix string, yield func(string, error) bool) bool {
	// As many characters as the prefix determines, then the rest here.
	match := escape(s.prefix+"{") + encoding.EncodeToString([]byte(prefix))[:len(prefix)*8/6] + "*}"
	for cursor := uint64(0); ; {
		var gs []string
		var err error
		if gs, cursor, err = s.groupsPage(ctx, node, cursor, match, prefix); err != nil {
			yield("", err)
			return false
		}
		for _, g := range gs {
			if !yield(g, nil) {
				return false
			}
		}
		if cursor == 0 {
			return true
		}
	}
}

func (s *Store) groupsPage(ctx context.Context, node redis.Cmdable, cursor uint64, match, prefix string) (gs []string, next uint64, err error) {
	keys, next, err := s.indexes(ctx, node, cursor, match)
	if err != nil {
		return nil, 0, err
	}
	for _, k := range keys {
		b, err := encoding.DecodeString(k[len(s.prefix)+1 : len(k)-1])
		if err != nil || !strings.HasPrefix(string(b), prefix) {
			continue // not an index, or of another group
		}
		live, err := s.live(ctx, string(b))
		if err != nil {
			return nil, 0, err
		}
		if live {
			gs = append(gs, string(b))
		}
	}
	return gs, next, nil
}

// indexes is one step of the walk over a master's keys.
func (s *Store) indexes(ctx context.Context, node redis.Cmdable, cursor uint64, match string) ([]string, uint64, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	keys, next, err := node.ScanType(ctx, cursor, match, 1000, "zset").Result()
	return keys, next, explain(err)
}

// live reports whether a group has a record that has not expired.
func (s *Store) live(ctx context.Context, group string) (bool, error) {
	for from := "-"; ; {
		rs, last, err := s.page(ctx, group, from, "")
		if err != nil || len(rs) > 0 || last == "" {
			return len(rs) > 0, err
		}
		from = "(" + last
	}
}

// escape makes a pattern that matches s alone.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
