// Package redisqueue is the queue.Store on Redis 7 or later, Valkey 7.2 or
// later, Sentinel or Redis Cluster: any number of processes share the queues.
//
// Every change is one Lua script (scripts.go) that runs at most once: when its
// answer is lost, the call fails and the caller repeats it with the same dedup
// keys. On one server a batch is one script for all its queues; in a cluster it
// is one script per queue, in one pipeline per node.
//
// An append is as durable as the server's appendfsync and the option
// WaitReplicas say. The server must not evict keys (maxmemory-policy
// noeviction): it would evict mail.
//
// Wake-ups come by sharded pub/sub over one connection per process and server,
// however many queues are watched; watchers are woken every Poll besides, in
// case a message was lost.
//
// What expired is invisible at once. It is removed when its queue is next
// touched, or by a sweep that one of the processes makes every day.
//
// Time is that of the calling process. Clocks of processes should agree within
// minutes: days and hours are what they decide.
package redisqueue

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

// ErrFormat reports a queue whose state this program cannot read: it was
// written by a newer version or is damaged.
var ErrFormat = errors.New("redisqueue: unknown format of a queue's state")

// Options are what New needs to know besides the server. The zero value is
// usable.
type Options struct {
	// WaitReplicas is how many replicas must confirm a write before its call
	// returns; fewer in time make the call fail. 0 means none. Read waits too: what
	// it returned is confirmed.
	WaitReplicas int
	// WaitTimeout bounds that. 0 means one second.
	WaitTimeout time.Duration
	// Poll is how often a watcher is woken without an append. 0 means 25 s.
	Poll time.Duration
}

// Store implements queue.Store.
type Store struct {
	run    redisscript.Runner
	prefix string
	touch  int
	now    func() time.Time
	wakes  *wakes

	ctx    context.Context // the lifetime of the sweeper
	cancel context.CancelFunc
	wg     sync.WaitGroup

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
}

var _ queue.Auditor = (*Store)(nil)

// New returns a store of the keys that begin with prefix, which must not
// contain '{'. It does not close client; Close must be called before that is
// closed.
func New(client redis.UniversalClient, prefix string, o Options) (*Store, error) {
	if o.Poll == 0 {
		o.Poll = 25 * time.Second
	}
	s := &Store{
		run:    redisscript.Runner{Client: client, WaitReplicas: o.WaitReplicas, WaitTimeout: o.WaitTimeout},
		prefix: prefix,
		now:    time.Now,
	}
	if o.WaitReplicas > 0 {
		s.touch = 1
	}
	var err error
	s.wakes, err = newWakes(client, func(id string) string { return s.key(queue.ID(id), "s") }, s.idOf, o.Poll)
	if err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.sweeper)
	return s, nil
}

// Close implements queue.Store.
func (s *Store) Close() error {
	s.life.Lock()
	closed := s.closed
	s.closed = true
	s.life.Unlock()
	if !closed {
		s.cancel()
		s.wakes.close()
		s.wg.Wait()
	}
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
		return nil, queue.ErrClosed
	}
	return s.life.RUnlock, nil
}

// beginOne is begin for a call about one queue.
func (s *Store) beginOne(ctx context.Context, id queue.ID) (end func(), err error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	return s.begin(ctx)
}

// encoding of ids in keys: no byte of an id can end the hash tag.
var encoding = base64.RawURLEncoding

func (s *Store) key(id queue.ID, kind string) string {
	return s.prefix + "{" + encoding.EncodeToString([]byte(id)) + "}" + kind
}

// idOf returns the queue whose state has a key.
func (s *Store) idOf(key string) (string, bool) {
	if len(key) < len(s.prefix)+3 {
		return "", false
	}
	id, err := encoding.DecodeString(key[len(s.prefix)+1 : len(key)-2])
	return string(id), err == nil
}

// pattern matches the keys of all states.
func (s *Store) pattern() string {
	return escape(s.prefix) + "{*}s"
}

// keys are all keys of a queue, in the order of scripts.go.
func (s *Store) keys(id queue.ID) []string {
	k := s.key(id, "")
	return []string{k + "s", k + "e", k + "0", k + "1"}
}

// seconds is now for scripts.
func (s *Store) seconds() int64 { return s.now().Unix() }

// explain turns what a script failed with into this package's errors.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return queue.ErrNotFound
	case redis.HasErrorPrefix(err, "MMRFORMAT"):
		return ErrFormat
	}
	return fmt.Errorf("redisqueue: %w", err)
}

// exact bounds a number to what Lua holds exactly.
func exact(n uint64) int64 { return int64(min(n, 1<<53)) }

// Bounds of limits in the packed state.
const (
	mostEntries = 1<<32 - 1
	mostBytes   = 1<<40 - 1
	mostSeconds = 1<<32 - 1
)

// Create implements queue.Store.
func (s *Store) Create(ctx context.Context, id queue.ID, l queue.Limits) error {
	if err := l.Check(); err != nil {
		return err
	}
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	l = l.WithDefaults()
	age := int64(math.Ceil(l.MaxAge.Seconds()))
	made, err := s.run.Do(ctx, createScript, s.keys(id)[:1],
		min(int64(l.MaxEntries), mostEntries), min(l.MaxBytes, mostBytes), min(age, mostSeconds)).Int64()
	if err != nil {
		return explain(err)
	}
	if made == 0 {
		return queue.ErrExists
	}
	return nil
}

// Delete implements queue.Store.
func (s *Store) Delete(ctx context.Context, id queue.ID) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	return explain(s.run.Do(ctx, deleteScript, s.keys(id)).Err())
}

// Read implements queue.Store.
func (s *Store) Read(ctx context.Context, id queue.ID, after queue.Seq, max int) ([]queue.Entry, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return nil, err
	}
	defer end()
	vs, err := s.run.Do(ctx, readScript, s.keys(id)[:2], s.seconds(), exact(uint64(after)), max, queue.ReadBytes, s.touch).Slice()
	if err != nil {
		return nil, explain(err)
	}
	if len(vs) <= 1 {
		return nil, nil
	}
	first, ok := vs[0].(int64)
	if !ok {
		return nil, ErrFormat
	}
	es := make([]queue.Entry, len(vs)-1)
	for i, v := range vs[1:] {
		e, ok := v.(string)
		if !ok {
			return nil, ErrFormat
		}
		es[i] = queue.Entry{Seq: queue.Seq(first) + queue.Seq(i), Data: []byte(e)}
	}
	return es, nil
}

// Ack implements queue.Store.
func (s *Store) Ack(ctx context.Context, id queue.ID, upTo queue.Seq) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	for {
		n, err := s.run.Do(ctx, ackScript, s.keys(id)[:2], s.seconds(), exact(uint64(upTo)), s.touch).Int64()
		if err != nil || n == 1 {
			return explain(err)
		}
	}
}

// Stat implements queue.Store.
func (s *Store) Stat(ctx context.Context, id queue.ID) (queue.Stat, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return queue.Stat{}, err
	}
	defer end()
	ns, err := s.run.Do(ctx, statScript, s.keys(id)[:2], s.seconds()).Int64Slice()
	if err != nil {
		return queue.Stat{}, explain(err)
	}
	if len(ns) != 4 {
		return queue.Stat{}, ErrFormat
	}
	return queue.Stat{
		Entries: int(ns[1]), Bytes: ns[2], Last: queue.Seq(ns[0]), Acked: queue.Seq(ns[0] - ns[1]), Dropped: uint64(ns[3]),
	}, nil
}

// Wake implements queue.Store.
func (s *Store) Wake(ctx context.Context, id queue.ID) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	return explain(s.run.Client.SPublish(ctx, s.key(id, "s"), "").Err())
}

// Watch implements queue.Store.
func (s *Store) Watch(ctx context.Context, id queue.ID) (<-chan struct{}, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return nil, err
	}
	defer end()
	return s.wakes.set.Add(ctx, string(id)), nil
}
